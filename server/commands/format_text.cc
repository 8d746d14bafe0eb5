#include "server/commands/format_text.h"

#include <cstdarg>
#include <cstdio>

namespace comet {

std::string FormatText(const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

}  // namespace comet
