#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace comet {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;
  std::string path;  // Percent-decoded, without the query.
  std::string request_id;
  std::string content_type;  // Without parameters, lower case; empty when absent.
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<HttpHeader> headers = {};
};

// A 200 with a JSON body.
HttpResponse JsonResponse(std::string body);

// "Not Found".
std::string_view ReasonPhrase(int status);

// The status line and header block up to and including the empty line. `request_id` and the headers
// must be valid header text. `content_bytes` < 0: chunked.
struct HttpHead {
  int status = 200;
  std::string_view content_type;
  std::string_view request_id;
  long long content_bytes = 0;
  bool keeps_alive = true;
  bool is_http10 = false;
  const std::vector<HttpHeader>* headers = nullptr;
};
std::string FormatHead(const HttpHead& head);

// One chunk of a chunked body; `bytes` isn't empty.
void AppendChunk(std::string& out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// "%2F" -> "/"; false when an escape is malformed or gives NUL.
bool PercentDecode(std::string_view text, std::string& out);

// 1 to 128 of letters, digits, '.', '_', ':', '-'.
bool IsRequestId(std::string_view text);

}  // namespace comet
