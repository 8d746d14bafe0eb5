#include "engine/chat_template/filters.h"

namespace comet::jinja {

Filter FindFilter(std::string_view name) {
  if (const Filter filter = FindTextFilter(name)) return filter;
  if (const Filter filter = FindListFilter(name)) return filter;
  return FindNumberFilter(name);
}

}  // namespace comet::jinja
