#pragma once

#include <algorithm>
#include <vector>

namespace comet {

// Joins neighbouring symbols, always the pair of best priority first and the leftmost of equals,
// until no pair can be joined: the common core of byte-level and SentencePiece BPE. A heap of
// candidate pairs over a doubly linked list costs O(n log n) for n symbols, so a text without any
// break is no worse than another. Confined to one thread; reuse it to keep its buffers.
//
// Symbol needs nothing. A Rule has
//   Priority            ordered by <; the smallest is joined first.
//   bool Find(const Symbol& left, const Symbol& right, Priority& priority, int& joined_id) const
//   Symbol Join(const Symbol& left, const Symbol& right, int joined_id) const
template <typename Symbol, typename Rule>
class SymbolMerger {
 public:
  void Add(const Symbol& symbol) {
    const int idx = static_cast<int>(nodes_.size());
    nodes_.push_back({symbol, idx - 1, idx + 1, 0, true});
  }

  // Calls on_symbol(const Symbol&) for what is left, in order, and forgets all symbols.
  template <typename OnSymbol>
  void Run(const Rule& rule, OnSymbol on_symbol) {
    for (int i = 0; i + 1 < static_cast<int>(nodes_.size()); ++i) PushPair(rule, i);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), IsWorse);
      const Candidate best = heap_.back();
      heap_.pop_back();
      if (IsCurrent(best)) Join(rule, best);
    }
    for (const Node& node : nodes_) {
      if (node.is_alive) on_symbol(node.symbol);
    }
    nodes_.clear();
  }

 private:
  struct Node {
    Symbol symbol;
    int prev;
    int next;
    int version;  // Counts the changes of this symbol, so that old candidates are recognised.
    bool is_alive;
  };
  struct Candidate {
    typename Rule::Priority priority;
    int left;  // The other is the one next to it.
    int left_version;
    int right_version;
    int joined_id;
  };

  static bool IsWorse(const Candidate& a, const Candidate& b) {
    if (b.priority < a.priority) return true;
    if (a.priority < b.priority) return false;
    return b.left < a.left;
  }

  void PushPair(const Rule& rule, int left) {
    const int right = nodes_[left].next;
    if (right >= static_cast<int>(nodes_.size())) return;
    Candidate candidate{{}, left, nodes_[left].version, nodes_[right].version, -1};
    if (!rule.Find(nodes_[left].symbol, nodes_[right].symbol, candidate.priority,
                   candidate.joined_id)) {
      return;
    }
    heap_.push_back(candidate);
    std::push_heap(heap_.begin(), heap_.end(), IsWorse);
  }

  // While the left one is as it was, its neighbour is the same one, and alive.
  bool IsCurrent(const Candidate& candidate) const {
    const Node& left = nodes_[candidate.left];
    return left.is_alive && left.version == candidate.left_version &&
           nodes_[left.next].version == candidate.right_version;
  }

  void Join(const Rule& rule, const Candidate& best) {
    Node& left = nodes_[best.left];
    Node& right = nodes_[left.next];
    left.symbol = rule.Join(left.symbol, right.symbol, best.joined_id);
    ++left.version;
    left.next = right.next;
    right.is_alive = false;
    if (right.next < static_cast<int>(nodes_.size())) nodes_[right.next].prev = best.left;
    if (left.prev >= 0) PushPair(rule, left.prev);
    PushPair(rule, best.left);
  }

  std::vector<Node> nodes_;
  std::vector<Candidate> heap_;
};

}  // namespace comet
