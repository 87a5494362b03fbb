#include "engine/copy_jobs.h"

#include <algorithm>
#include <array>
#include <utility>

#include "proto/relation.h"

namespace bitacora::engine {
namespace {

// Built-in types that have no binary form, are not read back from it when empty, or contain one
// that has none: int2vector, oidvector, aclitem, aclitem[], tsquery, gtsvector.
constexpr std::array<std::uint32_t, 7> kTextTypes = {22, 30, 1033, 1034, 3615, 3642, 3645};

// OIDs in the binary form of arrays and composite values are the master's own: of types that are
// not built in text is sent. So it is where constants are added to every line.
bool copies_binary(const apply::MappedTable& mapped) {
  if (!mapped.constants.empty()) return false;
  for (std::size_t i = 0; i < mapped.sources.size(); ++i) {
    const auto& plan = mapped.plan.columns[i];
    const auto type = mapped.relation.columns(static_cast<int>(i)).type_oid();
    if (!plan.writable) continue;
    const bool built_in = type < proto::kFirstGenbkiOid;
    const bool as_text = std::find(kTextTypes.begin(), kTextTypes.end(), type) != kTextTypes.end();
    if (!built_in || as_text || !plan.cast.empty()) return false;
  }
  return true;
}

// A part's share of its piece.
std::uint64_t disk_bytes(const pb::CopyTablePlan& plan, const apply::CopiedPart& part) {
  for (const auto& piece : plan.pieces()) {
    if (piece.oid() != part.piece) continue;
    if (piece.pages() == 0) return piece.bytes();
    const auto end = part.end_page == 0 ? piece.pages() : part.end_page;
    return static_cast<std::uint64_t>(static_cast<double>(piece.bytes()) *
                                      static_cast<double>(end - std::min(end, part.begin_page)) /
                                      static_cast<double>(piece.pages()));
  }
  return 0;
}

}  // namespace

CopyingTable copying_table(const pb::CopyTablePlan& plan, const apply::MappedTable& mapped,
                           apply::CopiedTable copied) {
  CopyingTable table;
  table.name = proto::qualified_name(plan.relation());
  table.relation_oid = plan.relation().oid();
  table.target.schema = copied.schema;
  table.target.name = copied.name;
  table.target.rows = {mapped.plan.target, mapped.plan.own_rows};
  table.target.mingled = mapped.plan.mingled;
  table.target.binary = copies_binary(mapped);
  const auto& columns = mapped.plan.columns;
  for (std::size_t i = 0; i < mapped.sources.size(); ++i) {
    if (!columns[i].writable) continue;
    table.target.columns.push_back(columns[i].name);
    table.columns.push_back(plan.relation().columns(static_cast<int>(mapped.sources[i])).name());
  }
  for (std::size_t i = 0; i < mapped.constants.size(); ++i) {
    table.target.columns.push_back(columns[mapped.sources.size() + i].name);
    table.target.constants.push_back(mapped.constants[i]);
  }
  table.copied = std::move(copied);
  return table;
}

void CopyJobs::add(CopyingTable table, const pb::CopyTablePlan& plan,
                   const std::vector<apply::CopiedPart>& parts) {
  tables_.push_back(std::make_unique<CopyingTable>(std::move(table)));
  const auto* added = tables_.back().get();
  const std::lock_guard lock(mutex_);
  for (const auto& part : parts) jobs_.push_back({added, part, disk_bytes(plan, part)});
  left_[added] = parts.size();
  std::stable_sort(jobs_.begin(), jobs_.end(),
                   [](const CopyJob& a, const CopyJob& b) { return a.disk_bytes < b.disk_bytes; });
}

std::vector<CopyProgress::Expected> CopyJobs::expected() const {
  const std::lock_guard lock(mutex_);
  std::vector<CopyProgress::Expected> all;
  for (const auto& table : tables_) {
    CopyProgress::Expected& expected = all.emplace_back();
    expected.table = table->name;
    for (const auto& job : jobs_) {
      if (job.table != table.get()) continue;
      ++expected.parts;
      expected.disk_bytes += job.disk_bytes;
    }
  }
  return all;
}

std::optional<CopyJob> CopyJobs::next() {
  const std::lock_guard lock(mutex_);
  if (jobs_.empty()) return std::nullopt;
  auto job = jobs_.back();
  jobs_.pop_back();
  return job;
}

std::size_t CopyJobs::left() const {
  const std::lock_guard lock(mutex_);
  return jobs_.size();
}

bool CopyJobs::done(const CopyJob& job) {
  const std::lock_guard lock(mutex_);
  return --left_[job.table] == 0;
}

}  // namespace bitacora::engine
