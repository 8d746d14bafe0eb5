#include "kernels/cpu/isa.h"

#include "kernels/base/str_cat.h"

namespace comet::cpu {

std::string_view ToString(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512Vnni: return "avx512vnni";
  }
  return "?";
}

Result<Isa> ChooseIsa(std::string_view name) {
  constexpr Isa kWidestFirst[] = {Isa::kAvx512Vnni, Isa::kAvx2, Isa::kScalar};
  for (const Isa isa : kWidestFirst) {
    if (name == "auto" && IsSupported(isa)) return isa;
    if (name != ToString(isa)) continue;
    if (IsSupported(isa)) return isa;
    return Unimplemented(StrCat("cpu: cpu_isa is '", name, "', which this machine cannot run"));
  }
  return InvalidArgument(
      StrCat("cpu: cpu_isa is '", name, "', expected auto, scalar, avx2 or avx512vnni"));
}

}  // namespace comet::cpu
