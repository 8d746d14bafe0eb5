#include <cpuid.h>
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernels.h"

namespace comet::cpu {
namespace {

// Intel SDM volume 2A, CPUID leaves 1 and 7, and volume 1 section 13.3 (XCR0).
constexpr uint32_t kLeaf1EcxFma = 1u << 12;
constexpr uint32_t kLeaf1EcxOsXsave = 1u << 27;
constexpr uint32_t kLeaf1EcxF16c = 1u << 29;
constexpr uint32_t kLeaf7EbxAvx2 = 1u << 5;
constexpr uint32_t kLeaf7EbxAvx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
constexpr uint32_t kLeaf7EcxVnni = 1u << 11;
constexpr uint64_t kYmmState = 0x6;   // The operating system saves XMM and YMM ...
constexpr uint64_t kZmmState = 0xe6;  // ... and mask and ZMM registers.

struct Features {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0;
  uint32_t leaf7_ecx = 0;
  uint64_t saved_state = 0;
};

__attribute__((target("xsave"))) uint64_t ReadSavedState() { return _xgetbv(0); }

Features ReadFeatures() {
  Features features;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0) features.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
    features.leaf7_ebx = ebx;
    features.leaf7_ecx = ecx;
  }
  if ((features.leaf1_ecx & kLeaf1EcxOsXsave) != 0) features.saved_state = ReadSavedState();
  return features;
}

bool HasAll(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

}  // namespace

bool IsSupported(Isa isa) {
  const Features features = ReadFeatures();
  const bool has_avx2 = HasAll(features.leaf1_ecx, kLeaf1EcxFma | kLeaf1EcxF16c) &&
                        HasAll(features.leaf7_ebx, kLeaf7EbxAvx2) &&
                        HasAll(features.saved_state, kYmmState);
  switch (isa) {
    case Isa::kScalar: return true;
    case Isa::kAvx2: return has_avx2;
    case Isa::kAvx512Vnni:
      return has_avx2 && HasAll(features.leaf7_ebx, kLeaf7EbxAvx512) &&
             HasAll(features.leaf7_ecx, kLeaf7EcxVnni) && HasAll(features.saved_state, kZmmState);
  }
  return false;
}

const KernelTable& KernelsOf(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return ScalarKernels();
    case Isa::kAvx2: return Avx2Kernels();
    case Isa::kAvx512Vnni: return Avx512VnniKernels();
  }
  return ScalarKernels();
}

}  // namespace comet::cpu
