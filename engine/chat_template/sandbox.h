#pragma once

#include <cstdint>
#include <ctime>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/chat_template/chat_template.h"
#include "engine/chat_template/value.h"
#include "kernels/base/status.h"

namespace comet::jinja {

// The limits of one rendering and the only maker of its values. Everything a template can make grow
// passes here: steps, which also pay for bytes read and written; live memory; nesting; output.
// Outlives its values. Confined to one thread. Errors of all calls: kResourceExhausted.
class Sandbox {
 public:
  Sandbox(const ChatTemplateLimits& limits, ChatTemplateClock clock);
  ~Sandbox();

  Status Spend(int64_t num_steps);
  // Work proportional to text: 256 bytes are a step.
  Status SpendBytes(int64_t num_bytes);
  // Of a look-up, which hashes its key.
  Status SpendKey(const Value& key);
  // Before a string of this size is built.
  Status CheckTextBytes(int64_t num_bytes) const;

  Result<Value> NewString(std::string bytes);
  Result<Value> NewList(std::vector<Value> items, ListKind kind = ListKind::kList);
  // Of equal keys the last value stays, at the place of the first. Errors also: kInvalidArgument
  // for a value that can't be a key.
  Result<Value> NewDict(std::vector<std::pair<Value, Value>> items);
  Result<Value> NewMethod(const Value& self, std::string_view name);
  Result<Namespace*> NewNamespace();

  Status Append(const std::shared_ptr<List>& list, Value item);

  // The error on its way is the template's own, by raise_exception().
  void MarkRaised() { has_raised_ = true; }
  bool has_raised() const { return has_raised_; }

  std::time_t Now() const { return clock_(); }
  int depth_max() const { return limits_.depth_max; }
  int output_bytes_max() const { return limits_.output_bytes_max; }

  // One level of recursion, for as long as it lives; its status says whether there was room.
  class Nesting {
   public:
    explicit Nesting(Sandbox& sandbox) : sandbox_(sandbox) { ++sandbox_.num_nested_; }
    ~Nesting() { --sandbox_.num_nested_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

    Status status() const;

   private:
    Sandbox& sandbox_;
  };

 private:
  friend class Tracked;

  Status Reserve(int64_t num_bytes);
  void Release(int64_t num_bytes) { num_live_bytes_ -= num_bytes; }
  Status CheckDepth(int depth) const;

  const ChatTemplateLimits limits_;
  const ChatTemplateClock clock_;
  int64_t num_steps_left_;
  int64_t num_partial_bytes_ = 0;  // Paid by the next step.
  int64_t num_live_bytes_ = 0;
  int num_nested_ = 0;
  bool has_raised_ = false;
  std::deque<Namespace> namespaces_;
  // Lists that grew by a container may hold themselves; emptied at the end, so that they go.
  std::vector<std::shared_ptr<List>> appended_;
};

}  // namespace comet::jinja
