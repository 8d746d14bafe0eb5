#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "engine/loader/checkpoint_format.h"
#include "engine/loader/gguf_config.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/loader/safetensors_file.h"
#include "engine/loader/text_files.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/base/check.h"
#include "kernels/base/str_cat.h"
#include "tests/fuzz/targets.h"

namespace comet {
namespace {

// Bytes as a file that can be opened by a path, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : descriptor_(::memfd_create("comet_fuzz", 0)) {
    COMET_CHECK(descriptor_ >= 0);
    COMET_CHECK(::write(descriptor_, bytes.data(), bytes.size()) ==
                static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return StrCat("/proc/self/fd/", descriptor_); }

 private:
  int descriptor_;
};

// Touches both ends, so that a view past the file is found.
template <typename Bytes>
void Touch(const Bytes& bytes) {
  if (bytes.empty()) return;
  [[maybe_unused]] const volatile auto first = bytes.front();
  [[maybe_unused]] const volatile auto last = bytes.back();
}

}  // namespace

void FuzzGguf(std::string_view bytes) {
  const MemoryFile memory(bytes);
  const Result<GgufFile> file = GgufFile::Open(memory.path());
  if (!file.ok()) return;
  for (const GgufTensor& tensor : file->tensors()) Touch(tensor.data);
  for (const auto& [key, value] : file->metadata()) Touch(value.data);
  (void)ReadGgufConfig(*file);
  (void)ReadGgufTemplates(*file);
  Result<Vocabulary> vocabulary = ReadVocabulary(*file);
  if (vocabulary.ok()) (void)Tokenizer::Create(std::move(vocabulary).value());
}

void FuzzSafetensors(std::string_view bytes) {
  const MemoryFile memory(bytes);
  const Result<SafetensorsFile> file = SafetensorsFile::Open(memory.path());
  if (!file.ok()) return;
  for (const auto& [name, tensor] : file->tensors()) {
    const int64_t num_bytes = tensor.shape().num_elements();
    if (num_bytes == 0) continue;
    [[maybe_unused]] const volatile char first = *static_cast<const char*>(tensor.data());
  }
}

void FuzzConfigJson(std::string_view bytes) { (void)ParseCheckpointConfig("f", bytes); }

}  // namespace comet
