#pragma once

#include <functional>

namespace comet {

// Calls `body(first, last)` for ranges that together cover [0, num_rows) once, on `num_threads`
// threads of which the caller is one. Returns when all are done. The ranges depend on the two
// counts only. `body` calls no ParallelRows() itself.
void ParallelRows(int num_threads, int num_rows, const std::function<void(int, int)>& body);

}  // namespace comet
