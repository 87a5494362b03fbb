#include "apply/net_changes.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kCountBytes = 2;
constexpr std::size_t kLengthBytes = 4;
constexpr std::int32_t kUnchangedLength = -2;

bool has_unchanged(const proto::Tuple& tuple) {
  return std::any_of(tuple.begin(), tuple.end(),
                     [](const auto& value) { return value.kind == proto::ValueKind::kUnchanged; });
}

bool is_unchanged(std::string_view field) {
  return load_big_endian<std::int32_t>(field.data()) == kUnchangedLength;
}

}  // namespace

std::vector<std::string_view> tuple_fields(std::string_view tuple) {
  std::vector<std::string_view> fields;
  for (std::size_t at = kCountBytes; at < tuple.size();) {
    const auto length = load_big_endian<std::int32_t>(tuple.data() + at);
    const auto bytes = kLengthBytes + static_cast<std::size_t>(std::max(length, 0));
    fields.push_back(tuple.substr(at, bytes));
    at += bytes;
  }
  return fields;
}

bool NetChanges::add(pb::RowOperation operation, const proto::Row& row) {
  if (operation == pb::INSERT) return insert(row);
  if (plan_.locator.empty()) return false;
  if (!index()) return false;
  const bool has_old = proto::has_old_tuple(operation);
  const auto old_key =
      has_old ? key_of(row.old_tuple, row.old_bytes) : key_of(row.new_tuple, row.new_bytes);
  if (old_key.empty()) return false;
  if (!proto::has_new_tuple(operation)) return remove(old_key);
  if (!has_old) return update(old_key, row);
  const auto new_key = key_of(row.new_tuple, row.new_bytes);
  if (new_key.empty()) return false;
  return old_key == new_key ? update(old_key, row) : change_key(old_key, new_key, row);
}

void NetChanges::clear() {
  entries_.clear();
  by_key_.clear();
  indexed_ = false;
  kept_.clear();
}

// False when two of the INSERTs have one key.
bool NetChanges::index() {
  if (std::exchange(indexed_, true)) return true;
  by_key_.reserve(2 * entries_.size());
  for (std::size_t i = 0; i < entries_.size(); ++i)
    by_key_.try_emplace(entries_[i].key, static_cast<std::uint32_t>(i));
  indexed_ = by_key_.size() == entries_.size();
  if (!indexed_) by_key_.clear();
  return indexed_;
}

NetChanges::Entry* NetChanges::find(std::string_view key) {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &entries_[found->second];
}

NetChanges::Entry& NetChanges::find_or_make(std::string_view key) {
  const auto [place, is_new] = by_key_.try_emplace(key, entries_.size());
  if (is_new) entries_.push_back({key, {}, Net::kNothing, false});
  return entries_[place->second];
}

bool NetChanges::insert(const proto::Row& row) {
  if (has_unchanged(row.new_tuple)) return false;
  if (plan_.locator.empty()) {
    entries_.push_back({{}, row.new_bytes, Net::kInsert, false});
    return true;
  }
  const auto key = key_of(row.new_tuple, row.new_bytes);
  if (key.empty()) return false;
  if (!indexed_) {
    entries_.push_back({key, row.new_bytes, Net::kInsert, false});
    return true;
  }
  const auto [place, is_new] = by_key_.try_emplace(key, entries_.size());
  if (is_new) {
    entries_.push_back({key, row.new_bytes, Net::kInsert, false});
    return true;
  }
  Entry& entry = entries_[place->second];
  if (entry.net != Net::kNothing && entry.net != Net::kDelete) return false;
  entry.net = entry.net == Net::kDelete ? Net::kReplace : Net::kInsert;
  entry.tuple = row.new_bytes;
  entry.partial = false;
  return true;
}

bool NetChanges::update(std::string_view key, const proto::Row& row) {
  const bool partial = has_unchanged(row.new_tuple);
  const auto [place, is_new] = by_key_.try_emplace(key, entries_.size());
  if (is_new) {
    entries_.push_back({key, row.new_bytes, Net::kUpdate, partial});
    return true;
  }
  Entry& entry = entries_[place->second];
  if (entry.net == Net::kNothing || entry.net == Net::kDelete) return false;
  entry.tuple = partial ? merged(entry.tuple, row) : row.new_bytes;
  entry.partial &= partial;
  return true;
}

// As a row that goes and another that comes. That needs the whole new row; and columns that only
// the standby has would not come along.
bool NetChanges::change_key(std::string_view old_key, std::string_view new_key,
                            const proto::Row& row) {
  const Entry* old_entry = find(old_key);
  const Entry* new_entry = find(new_key);
  const bool gone =
      old_entry != nullptr && (old_entry->net == Net::kNothing || old_entry->net == Net::kDelete);
  const bool taken =
      new_entry != nullptr && new_entry->net != Net::kNothing && new_entry->net != Net::kDelete;
  if (gone || taken) return false;
  const bool ours = old_entry != nullptr && old_entry->net != Net::kUpdate;
  if (!ours && !plan_.carried.empty()) return false;
  auto tuple = row.new_bytes;
  if (has_unchanged(row.new_tuple)) {
    if (old_entry == nullptr || old_entry->partial) return false;
    tuple = merged(old_entry->tuple, row);
  }
  remove(old_key);
  Entry& entry = find_or_make(new_key);
  entry.net = entry.net == Net::kDelete ? Net::kReplace : Net::kInsert;
  entry.tuple = tuple;
  entry.partial = false;
  return true;
}

bool NetChanges::remove(std::string_view key) {
  const auto [place, is_new] = by_key_.try_emplace(key, entries_.size());
  if (is_new) {
    entries_.push_back({key, {}, Net::kDelete, false});
    return true;
  }
  Entry& entry = entries_[place->second];
  if (entry.net == Net::kNothing || entry.net == Net::kDelete) return false;
  entry.net = entry.net == Net::kInsert ? Net::kNothing : Net::kDelete;
  entry.tuple = {};
  entry.partial = false;
  return true;
}

// Empty when the key is not all there. A key whose columns lie side by side is a view of the tuple.
std::string_view NetChanges::key_of(const proto::Tuple& tuple, std::string_view bytes) {
  const auto& locator = plan_.locator;
  for (const auto column : locator) {
    if (tuple[column].kind != proto::ValueKind::kBinary) return {};
  }
  const auto field = [&](std::size_t column) {
    const auto value = tuple[column].bytes;
    return std::string_view(value.data() - kLengthBytes, kLengthBytes + value.size());
  };
  CHECK(bytes.data() <= field(locator.front()).data());
  if (locator.back() - locator.front() + 1 == locator.size()) {
    const auto first = field(locator.front());
    const auto last = field(locator.back());
    return {first.data(), static_cast<std::size_t>(last.data() + last.size() - first.data())};
  }
  std::string key;
  for (const auto column : locator) key += field(column);
  return keep(std::move(key));
}

// The row's new values, and where it leaves one as it is, that of the tuple before.
std::string_view NetChanges::merged(std::string_view before, const proto::Row& row) {
  const auto old_fields = tuple_fields(before);
  const auto new_fields = tuple_fields(row.new_bytes);
  std::string tuple(row.new_bytes.substr(0, kCountBytes));
  for (std::size_t i = 0; i < new_fields.size(); ++i) {
    tuple += is_unchanged(new_fields[i]) ? old_fields[i] : new_fields[i];
  }
  return keep(std::move(tuple));
}

std::string_view NetChanges::keep(std::string bytes) {
  return kept_.emplace_back(std::move(bytes));
}

NetChanges::Effect NetChanges::effect() const {
  Effect effect;
  std::vector<const Entry*> found;  // by a key: rows that are there already
  for (const Entry& entry : entries_) {
    if (entry.net == Net::kInsert || entry.net == Net::kReplace)
      effect.inserts.push_back(entry.tuple);
    if (entry.net != Net::kInsert && entry.net != Net::kNothing) found.push_back(&entry);
  }
  std::sort(found.begin(), found.end(),
            [](const Entry* a, const Entry* b) { return a->key < b->key; });
  std::map<std::string, std::size_t> shapes;
  for (const Entry* entry : found) {
    if (entry->net != Net::kUpdate) {
      effect.deletes.push_back(entry->key);
      continue;
    }
    const auto unchanged = shape_of(*entry);
    const auto [shape, is_new] = shapes.try_emplace(unchanged, effect.updates.size());
    if (is_new) effect.updates.push_back({unchanged, {}});
    effect.updates[shape->second].tuples.push_back(entry->tuple);
  }
  return effect;
}

std::string NetChanges::shape_of(const Entry& entry) const {
  std::string unchanged(plan_.columns.size(), 'b');
  if (!entry.partial) return unchanged;
  const auto fields = tuple_fields(entry.tuple);
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (is_unchanged(fields[i])) unchanged[i] = 'u';
  }
  return unchanged;
}

}  // namespace bitacora::apply
