#include "engine/loader/pickle_check.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

Status Refusal(const std::string& path) {
  return Unimplemented(StrCat(path,
                              ": is a pickle file, expected safetensors or GGUF: reading a pickle "
                              "runs whatever code is in it"));
}

bool StartsWith(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() &&
         std::ranges::equal(bytes.first(magic.size()), magic,
                            [](std::byte a, char b) { return static_cast<char>(a) == b; });
}

}  // namespace

bool HasPickleName(std::string_view path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  for (const char* known : {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}) {
    if (extension == known) return true;
  }
  return false;
}

Status RefusePickle(const std::string& path, std::span<const std::byte> bytes) {
  // A zip archive, as torch.save() writes; a bare pickle of protocol 2 to 5.
  for (const std::string_view magic :
       {"PK\x03\x04", "\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"}) {
    if (StartsWith(bytes, magic)) return Refusal(path);
  }
  return Status::Ok();
}

Status RefusePickleName(const std::string& path) {
  return HasPickleName(path) ? Refusal(path) : Status::Ok();
}

}  // namespace comet
