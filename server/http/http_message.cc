#include "server/http/http_message.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include "kernels/base/str_cat.h"

namespace comet {
namespace {

// RFC 9110 5.6.7.
std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 40> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text.data(), length);
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void AppendHeader(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

}  // namespace

HttpResponse JsonResponse(std::string body) {
  HttpResponse response;
  response.body = std::move(body);
  return response;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Unknown";  // An int from anywhere, not an enumeration.
  }
}

std::string FormatHead(const HttpHead& head) {
  std::string out = StrCat("HTTP/1.1 ", head.status, " ", ReasonPhrase(head.status), "\r\n");
  AppendHeader(out, "Date", HttpDate());
  AppendHeader(out, "Content-Type", head.content_type);
  if (head.content_bytes >= 0) {
    AppendHeader(out, "Content-Length", std::to_string(head.content_bytes));
  } else {
    AppendHeader(out, "Cache-Control", "no-cache");
    if (!head.is_http10) AppendHeader(out, "Transfer-Encoding", "chunked");
  }
  if (!head.request_id.empty()) AppendHeader(out, "X-Request-Id", head.request_id);
  if (!head.keeps_alive) {
    AppendHeader(out, "Connection", "close");
  } else if (head.is_http10) {
    AppendHeader(out, "Connection", "keep-alive");
  }
  if (head.headers != nullptr) {
    for (const HttpHeader& header : *head.headers) AppendHeader(out, header.name, header.value);
  }
  return out.append("\r\n");
}

void AppendChunk(std::string& out, std::string_view bytes) {
  std::string size;
  for (size_t rest = bytes.size(); rest > 0; rest >>= 4) size += "0123456789abcdef"[rest & 15];
  std::reverse(size.begin(), size.end());
  out.reserve(out.size() + size.size() + bytes.size() + 4);
  out.append(size).append("\r\n").append(bytes).append("\r\n");
}

bool PercentDecode(std::string_view text, std::string& out) {
  out.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (text.size() - i < 3) return false;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0 || high + low == 0) return false;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return true;
}

bool IsRequestId(std::string_view text) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._:-").find(c) != std::string_view::npos;
  };
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), is_allowed);
}

}  // namespace comet
