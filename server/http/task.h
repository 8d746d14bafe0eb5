#pragma once

#include <boost/asio/awaitable.hpp>

namespace comet {

// A coroutine of a connection's I/O thread. The only name of the networking library outside
// server/http.
template <typename T>
using Task = boost::asio::awaitable<T>;

}  // namespace comet
