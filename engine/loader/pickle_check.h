#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kernels/base/status.h"

namespace comet {

// Whether a file's name is one that PyTorch gives to pickles (.bin, .pt, .pth, .ckpt, .pkl,
// .pickle).
bool HasPickleName(std::string_view path);

// Refuses a file that is a pickle, or a zip archive of one, by its first bytes: reading one runs
// the code in it. Errors: kUnimplemented naming the file.
Status RefusePickle(const std::string& path, std::span<const std::byte> bytes);
Status RefusePickleName(const std::string& path);

}  // namespace comet
