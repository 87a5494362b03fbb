// What a run of changes to one table comes to: per key at most one row to delete, one to update and
// one to insert. Applied in this order (deletes, updates, inserts) the table ends as if every
// change had been applied by itself. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "apply/table_plan.h"
#include "proto/row_block.h"

namespace bitacora::apply {

// Keys are compared as the bytes the master sends: it decides by the same bytes whether an UPDATE
// changes the key. Two keys may differ in bytes and still be equal to the type's operator (1.0 and
// 1.00); because deletes come first, that is of no consequence.
class NetChanges {
 public:
  explicit NetChanges(const TablePlan& plan) : plan_(plan) {}

  // Takes one change in. The row's bytes must stay where they are until clear(). False, and
  // nothing taken, when the net effect cannot be told: what is here must be applied, then the
  // change by itself.
  bool add(pb::RowOperation operation, const proto::Row& row);

  bool empty() const { return entries_.empty(); }
  std::size_t keys() const { return entries_.size(); }
  void clear();

  // Rows whose columns outside the locator are set, but for those that are left as they are.
  struct Updates {
    std::string unchanged;  // per column: u, or b for a column that is set
    std::vector<std::string_view> tuples;
  };
  struct Effect {
    std::vector<std::string_view> deletes;  // the locator's columns: each a length and its bytes
    std::vector<Updates> updates;
    std::vector<std::string_view> inserts;  // whole tuples
  };
  // Views into what was added; valid until clear(). Deletes and updates come in the order of their
  // keys' bytes, which is about that of an index: neighbours are found on the same pages.
  Effect effect() const;

 private:
  enum class Net : std::uint8_t { kNothing, kInsert, kUpdate, kDelete, kReplace };
  struct Entry {
    std::string_view key;
    std::string_view tuple;  // of kInsert, kUpdate, kReplace
    Net net = Net::kNothing;
    bool partial = false;  // the tuple leaves columns as they are
  };

  bool index();
  Entry* find(std::string_view key);
  Entry& find_or_make(std::string_view key);
  bool insert(const proto::Row& row);
  bool update(std::string_view key, const proto::Row& row);
  bool change_key(std::string_view old_key, std::string_view new_key, const proto::Row& row);
  bool remove(std::string_view key);

  std::string_view key_of(const proto::Tuple& tuple, std::string_view bytes);
  std::string_view merged(std::string_view before, const proto::Row& row);
  std::string_view keep(std::string bytes);
  std::string shape_of(const Entry& entry) const;  // as Updates::unchanged

  const TablePlan& plan_;
  std::vector<Entry> entries_;
  // Not kept as long as there are INSERTs only: where none may have the key of another one, the
  // standby's own index sees to it.
  absl::flat_hash_map<std::string_view, std::uint32_t> by_key_;
  bool indexed_ = false;
  std::deque<std::string> kept_;  // bytes made here
};

// The columns of a tuple in the layout of COPY BINARY, each with its length in front.
std::vector<std::string_view> tuple_fields(std::string_view tuple);

}  // namespace bitacora::apply
