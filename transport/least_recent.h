// The few that were used last, by key: both ends of a connection keep the same ones.
#pragma once

#include <cstddef>
#include <list>
#include <utility>

namespace bitacora::transport {

template <class Key, class Value>
class LeastRecent {
 public:
  explicit LeastRecent(std::size_t kept_max) : kept_max_(kept_max) {}

  // Null: not there, or not any more. Counts as a use.
  Value* find(const Key& key) {
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
      if (at->first != key) continue;
      entries_.splice(entries_.begin(), entries_, at);
      return &entries_.front().second;
    }
    return nullptr;
  }

  // In place of what has this key; what was used least recently goes when there are too many.
  template <class... Arguments>
  Value& emplace(const Key& key, Arguments&&... arguments) {
    erase(key);
    if (entries_.size() == kept_max_) entries_.pop_back();
    entries_.emplace_front(std::piecewise_construct, std::forward_as_tuple(key),
                           std::forward_as_tuple(std::forward<Arguments>(arguments)...));
    return entries_.front().second;
  }

  void erase(const Key& key) {
    entries_.remove_if([&](const auto& entry) { return entry.first == key; });
  }

 private:
  const std::size_t kept_max_;
  std::list<std::pair<Key, Value>> entries_;  // the last used first
};

}  // namespace bitacora::transport
