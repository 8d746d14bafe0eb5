#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "engine/loader/chat_template_files.h"
#include "engine/loader/checkpoint_format.h"
#include "engine/loader/float_source.h"
#include "engine/loader/folder_config.h"
#include "engine/loader/folder_weights.h"
#include "engine/loader/gguf_config.h"
#include "engine/loader/gguf_file.h"
#include "engine/loader/gguf_vocabulary.h"
#include "engine/loader/safetensors_file.h"
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

// A vocabulary that every folder gets: what is fuzzed is the rest.
constexpr std::string_view kTokenizer =
    R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,)"
    R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
    R"("use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel",)"
    R"("add_prefix_space":false,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE",)"
    R"("dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"",)"
    R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"ab":2},)"
    R"("merges":["a b"]}})";

// A folder of this process, made once and kept for the next input.
class ScratchFolder {
 public:
  ScratchFolder() : path_(StrCat("/dev/shm/comet_fuzz_", ::getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::string& path() const { return path_; }
  void Write(std::string_view name, std::string_view bytes) const {
    std::ofstream(StrCat(path_, "/", name), std::ios::binary) << bytes;
  }
  void Remove(std::string_view name) const {
    std::error_code ignored;
    std::filesystem::remove(StrCat(path_, "/", name), ignored);
  }

 private:
  std::string path_;
};

// A layer and what stands outside the layers.
void ReadSource(const std::string& path) {
  const auto source = FloatSource::Open(path);
  if (!source.ok()) return;
  (void)(*source)->ReadLayer(0);
  (void)(*source)->ReadEmbedding();
  (void)(*source)->ReadFinalNorm();
  (void)(*source)->ReadLmHead();
}

std::string_view TakePart(std::string_view& bytes) {
  const size_t end = bytes.find('\x1e');
  const std::string_view part = bytes.substr(0, end);
  bytes = end == std::string_view::npos ? std::string_view() : bytes.substr(end + 1);
  return part;
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
  ReadSource(memory.path());
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

void FuzzFolder(std::string_view bytes) {
  static const ScratchFolder folder;
  folder.Write("tokenizer.json", kTokenizer);
  folder.Write("config.json", TakePart(bytes));
  const std::string_view index = TakePart(bytes);
  constexpr std::string_view kIndexFile = "model.safetensors.index.json";
  index.empty() ? folder.Remove(kIndexFile) : folder.Write(kIndexFile, index);
  folder.Write("model.safetensors", bytes);

  (void)IsCometCheckpoint(folder.path());
  (void)FolderWeights::Open(folder.path());
  ReadSource(folder.path());
}

void FuzzConfigJson(std::string_view bytes) { (void)ParseCheckpointConfig("f", bytes); }

}  // namespace comet
