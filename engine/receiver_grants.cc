#include "engine/receiver_grants.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/config_section.h"
#include "proto/relation.h"

namespace bitacora::engine {
namespace {

constexpr const char* kExample = "for example: tables = [\"shop.*\", \"!shop.secret\"]";

bool is_wildcard(char character) { return character == '*' || character == '?'; }

// Without wildcards: more of them than any pattern can have.
std::size_t exactness(std::string_view name) {
  const auto wildcards = std::count_if(name.begin(), name.end(), is_wildcard);
  return wildcards == 0 ? SIZE_MAX : name.size() - static_cast<std::size_t>(wildcards);
}

Result<std::vector<std::string>> texts_of(const ConfigSection& section) {
  RETURN_IF_ERROR(section.expect_keys({"tables"}));
  ASSIGN_OR_RETURN(const auto texts, section.texts("tables"));
  if (!texts) return section.bad("", "tables is missing", kExample);
  // No patterns would mean every table.
  if (texts->empty())
    return section.bad("tables", "there is none", "every table is tables = [\"*\"]");
  return *texts;
}

std::string described(const std::string& receiver, const transport::Peer& peer) {
  if (!peer.has_certificate) return receiver;
  if (peer.names.empty()) return fmt::format("{} (its certificate has no name)", receiver);
  return fmt::format("{} (certificate {})", receiver, fmt::join(peer.names, ", "));
}

}  // namespace

proto::BatchFilter::Takes ReceiverScope::takes() const {
  if (may_.matches_everything() && wants_.matches_everything()) return {};
  return [scope = *this](const std::string& schema, const std::string& table) {
    return scope.matches(schema, table);
  };
}

wal::PublishedTables ReceiverScope::narrowed(wal::PublishedTables published) const {
  if (!takes()) return published;
  std::erase_if(published.relations, [&](const pb::Relation& relation) {
    return !matches(relation.schema(), relation.name());
  });
  std::set<std::uint32_t> used;
  for (const auto& relation : published.relations) {
    for (const auto& column : relation.columns()) used.insert(column.type_oid());
  }
  std::erase_if(published.types, [&](const pb::Type& type) { return !used.contains(type.oid()); });
  return published;
}

std::vector<std::string> ReceiverScope::idle_patterns(const wal::PublishedTables& published) const {
  std::vector<TablePatterns::Name> names;
  for (const auto& relation : published.relations) {
    if (may_.matches(relation.schema(), relation.name()))
      names.emplace_back(relation.schema(), relation.name());
  }
  return wants_.unmatched(names);
}

Result<void> Grant::check(const std::string& schema, const std::string& table) const {
  if (tables_.matches(schema, table)) return {};
  return Error{ErrorCode::kConfiguration,
               fmt::format("receiver {} may not have table {}", receiver_,
                           proto::qualified_name(schema, table)),
               "leave it out of the receiver's --tables, or add it to the receiver's "
               "[receivers.NAME] in the sender's --config"};
}

Result<ReceiverScope> Grant::scope(const std::vector<std::string>& wants) const {
  auto patterns = TablePatterns::parse(wants);
  if (!patterns.ok()) {
    Error error = patterns.error();
    error.code = ErrorCode::kConfiguration;
    return error;
  }
  for (const auto& [schema, table] : patterns->named()) RETURN_IF_ERROR(check(schema, table));
  return ReceiverScope(tables_, *std::move(patterns));
}

Result<void> ReceiverGrants::read(const ConfigSection& receivers) {
  ASSIGN_OR_RETURN(const auto sections, receivers.sections());
  if (sections.empty()) {
    return receivers.bad("", "it names no receiver",
                         "write [receivers.NAME], or leave it out: then everybody may have "
                         "everything");
  }
  for (const auto& section : sections) {
    ASSIGN_OR_RETURN(auto texts, texts_of(section));
    auto tables = TablePatterns::parse(texts);
    if (!tables.ok()) return section.bad("tables", tables.error().message, tables.error().hint);
    sections_.push_back({section.key(), std::move(texts), *std::move(tables)});
  }
  std::sort(sections_.begin(), sections_.end(),
            [](const Section& a, const Section& b) { return a.name < b.name; });
  return {};
}

const ReceiverGrants::Section* ReceiverGrants::best(const std::vector<std::string>& names) const {
  const Section* best = nullptr;
  for (const auto& section : sections_) {
    const bool exact = exactness(section.name) == SIZE_MAX;
    const bool matches = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return exact ? section.name == name : matches_wildcard(section.name, name);
    });
    if (matches && (best == nullptr || exactness(section.name) > exactness(best->name)))
      best = &section;
  }
  return best;
}

ReceiverGrants ReceiverGrants::within(const ReceiverGrants& others) const {
  auto both = *this;
  both.within_ = std::make_shared<const ReceiverGrants>(others);
  return both;
}

Result<Grant> ReceiverGrants::find(const std::string& receiver, const transport::Peer& peer) const {
  ASSIGN_OR_RETURN(auto grant, find_here(receiver, peer));
  if (!within_) return grant;
  const auto before = within_->find(receiver, peer);
  if (before.ok()) return Grant(described(receiver, peer), grant.tables().within(before->tables()));
  return Error{
      ErrorCode::kNetwork,
      fmt::format("receiver {} may have tables as soon as the sender has taken its new file",
                  described(receiver, peer)),
      {},
      Recovery::kRetry};
}

Result<Grant> ReceiverGrants::find_here(const std::string& receiver,
                                        const transport::Peer& peer) const {
  auto who = described(receiver, peer);
  if (sections_.empty()) return Grant(std::move(who), {});
  const auto names = peer.has_certificate ? peer.names : std::vector<std::string>{receiver};
  if (const auto* section = best(names)) return Grant(std::move(who), section->tables);
  return Error{
      ErrorCode::kConfiguration,
      fmt::format("receiver {} may not have any table: no [receivers.NAME] of the sender's "
                  "--config is for it",
                  who),
      fmt::format(
          "add [receivers.\"{}\"] with tables = [\"schema.table\"] there, and send the sender "
          "SIGHUP",
          names.empty() ? receiver : names.front())};
}

}  // namespace bitacora::engine
