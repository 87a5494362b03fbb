#include "apply/fast_path.h"

#include <utility>

#include "base/bytes.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kLengthBytes = 4;

proto::Value value_of(std::string_view field) {
  const auto length = load_big_endian<std::int32_t>(field.data());
  if (length >= 0) return {proto::ValueKind::kBinary, field.substr(kLengthBytes)};
  return {length == -1 ? proto::ValueKind::kNull : proto::ValueKind::kUnchanged};
}

proto::Tuple tuple_of(std::string_view bytes) {
  proto::Tuple tuple;
  for (const auto field : tuple_fields(bytes)) tuple.push_back(value_of(field));
  return tuple;
}

// As the master sends it: only the key has values.
proto::Tuple key_tuple(const TablePlan& plan, std::string_view key) {
  proto::Tuple tuple(plan.columns.size());
  for (const auto column : plan.locator) {
    const auto length = load_big_endian<std::int32_t>(key.data());
    const auto bytes = kLengthBytes + static_cast<std::size_t>(length);
    tuple[column] = value_of(key.substr(0, bytes));
    key.remove_prefix(bytes);
  }
  return tuple;
}

}  // namespace

Result<NetChanges*> FastPath::changes(const SharedChanges& batch, MappedTable& table,
                                      const pb::Rows& block) {
  const bool text = block.formats().find('t') != std::string::npos;
  if (!table.plan.set_wise || text) {
    RETURN_IF_ERROR(flush(table));
    return nullptr;
  }
  used_ = true;
  auto& held = by_table_[&table];
  if (held == nullptr) {
    held_.push_back(std::make_unique<Held>(Held{&table, NetChanges(table.plan)}));
    held = held_.back().get();
  }
  if (batches_.empty() || batches_.back() != batch) batches_.push_back(batch);
  return &held->changes;
}

Result<void> FastPath::on_block(const MappedTable& table, const pb::Rows& block) {
  Held& held = *by_table_.at(&table);
  keys_ += held.changes.keys() - std::exchange(held.counted, held.changes.keys());
  bytes_ += block.tuples().size();
  return bytes_ >= options_.bytes_max || keys_ >= options_.keys_max ? flush() : Result<void>{};
}

Result<void> FastPath::flush(MappedTable& table) {
  const auto found = by_table_.find(&table);
  return found == by_table_.end() ? Result<void>{} : write(*found->second);
}

Result<void> FastPath::flush() {
  for (const auto& held : held_) RETURN_IF_ERROR(write(*held));
  batches_.clear();
  bytes_ = 0;
  return {};
}

void FastPath::on_commit() {
  CHECK(batches_.empty());
  held_.clear();
  by_table_.clear();
  used_ = false;
  writer_.on_commit();
}

Result<void> FastPath::write(Held& held) {
  if (held.changes.empty()) return {};
  flushing_ = held.table;
  const auto effect = held.changes.effect();
  RETURN_IF_ERROR(write_deletes(*held.table, effect.deletes));
  for (const auto& updates : effect.updates) RETURN_IF_ERROR(write_updates(*held.table, updates));
  RETURN_IF_ERROR(write_inserts(*held.table, effect.inserts));
  held.changes.clear();
  keys_ -= std::exchange(held.counted, 0);
  flushing_ = nullptr;
  return {};
}

template <class Write>
Result<void> FastPath::set_wise(Write write) {
  RETURN_IF_ERROR(exchange_.pause());
  RETURN_IF_ERROR(write());
  return exchange_.resume();
}

Result<void> FastPath::write_deletes(MappedTable& table,
                                     const std::vector<std::string_view>& keys) {
  if (keys.size() >= options_.staged_rows_min)
    return set_wise([&] { return writer_.erase(table, keys); });
  proto::Row row;
  for (const auto key : keys) {
    row.old_tuple = key_tuple(table.plan, key);
    RETURN_IF_ERROR(exact_.write({}, {&table}, table, pb::DELETE_KEY, row, false));
  }
  return {};
}

Result<void> FastPath::write_updates(MappedTable& table, const NetChanges::Updates& updates) {
  if (updates.tuples.size() >= options_.staged_rows_min)
    return set_wise([&] { return writer_.update(table, updates); });
  proto::Row row;
  for (const auto tuple : updates.tuples) {
    row.new_tuple = tuple_of(tuple);
    RETURN_IF_ERROR(exact_.write({}, {&table}, table, pb::UPDATE, row, false));
  }
  return {};
}

Result<void> FastPath::write_inserts(MappedTable& table,
                                     const std::vector<std::string_view>& tuples) {
  if (tuples.size() >= options_.set_rows_min)
    return set_wise([&] { return writer_.insert(table, tuples); });
  proto::Row row;
  for (const auto tuple : tuples) {
    row.new_tuple = tuple_of(tuple);
    RETURN_IF_ERROR(exact_.write({}, {&table}, table, pb::INSERT, row, false));
  }
  return {};
}

}  // namespace bitacora::apply
