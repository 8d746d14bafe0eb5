#pragma once

#include <cstdint>

namespace comet {

// Raises the process's soft limit of open files to its hard one, as a daemon needs a descriptor a
// connection and shells often give 1,024. What is then allowed.
int64_t RaiseDescriptorLimit();

}  // namespace comet
