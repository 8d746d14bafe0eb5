#pragma once

#include <string>

#include "engine/loader/accuracy_file.h"
#include "kernels/base/status.h"

namespace comet {

// An SVG drawing of the relative output error of every linear layer, one panel with INT8
// activations and one with the checkpoint's mix, one line a kind of linear. An error that is no
// number is a red cross at the top.
std::string AccuracyChart(const AccuracyFile& accuracy, const std::string& title);

// Draws the report of a checkpoint folder into a file. Errors: those of ReadAccuracyFile();
// kInternal when the file cannot be written.
Status WriteAccuracyChart(const std::string& folder, const std::string& file);

}  // namespace comet
