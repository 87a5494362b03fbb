#include "transport/streamed_files.h"

#include <utility>

#include <fmt/format.h>

namespace bitacora::transport {
namespace {

constexpr std::uint64_t kFileBytesMin = 16u << 20;
constexpr std::string_view kSuffix = ".streamed";

}  // namespace

Result<WriteOutcome> StreamedFiles::append(std::uint32_t xid, const std::string& record,
                                           bool context_reset) {
  Transaction& transaction = transactions_[xid];
  auto& files = transaction.files;
  if (files.empty() || (context_reset && files.back().bytes >= kFileBytesMin)) {
    ASSIGN_OR_RETURN(const bool begun, begin_file(transaction, xid));
    if (!begun) return WriteOutcome::kFull;
  }
  File& last = files.back();
  ASSIGN_OR_RETURN(const auto outcome, last.file->append(record));
  if (outcome == WriteOutcome::kFull) return outcome;
  last.bytes += record.size();
  bytes_ += record.size();
  return outcome;
}

Result<bool> StreamedFiles::begin_file(Transaction& transaction, std::uint32_t xid) {
  auto name = fmt::format("{}-{}{}", xid, ++files_made_, kSuffix);
  ASSIGN_OR_RETURN(auto file, storage_.create(name));
  if (!file) return false;
  transaction.files.push_back({std::move(name), std::move(file), 0});
  return true;
}

Result<std::optional<pb::Frame>> StreamedFiles::take(std::uint32_t xid) {
  const auto found = transactions_.find(xid);
  if (found == transactions_.end()) return std::optional<pb::Frame>();
  Transaction& transaction = found->second;
  while (!transaction.files.empty()) {
    const File& first = transaction.files.front();
    if (!transaction.scanner) transaction.scanner.emplace(first.file, 0);
    ASSIGN_OR_RETURN(const auto scanned, transaction.scanner->next(first.bytes));
    if (scanned == Scanned::kRecord) return std::optional(transaction.scanner->frame());
    if (scanned == Scanned::kDamaged) {
      return Error{
          ErrorCode::kInternal,
          fmt::format("{} is damaged: {}", first.file->path(), transaction.scanner->damage()),
          "it heals by a new connection; if it comes back, check the disk of --data-dir",
          Recovery::kRetry};
    }
    RETURN_IF_ERROR(remove_first(transaction));
  }
  transactions_.erase(found);
  return std::optional<pb::Frame>();
}

Result<void> StreamedFiles::remove_first(Transaction& transaction) {
  const File first = std::move(transaction.files.front());
  transaction.files.pop_front();
  transaction.scanner.reset();
  bytes_ -= first.bytes;
  return storage_.remove(first.name);
}

Result<void> StreamedFiles::drop(std::uint32_t xid) {
  const auto found = transactions_.find(xid);
  if (found == transactions_.end()) return {};
  while (!found->second.files.empty()) RETURN_IF_ERROR(remove_first(found->second));
  transactions_.erase(found);
  return {};
}

Result<void> StreamedFiles::drop_all() {
  transactions_.clear();
  bytes_ = 0;
  ASSIGN_OR_RETURN(const auto names, storage_.list());
  for (const auto& name : names) {
    if (name.ends_with(kSuffix)) RETURN_IF_ERROR(storage_.remove(name));
  }
  return {};
}

}  // namespace bitacora::transport
