#include "server/api/version.h"

namespace comet {

std::string_view Version() { return COMET_VERSION; }

}  // namespace comet
