#include "apply/checkpoint.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include <fmt/format.h>

#include "base/bytes.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kMapBytes = 64u << 20;  // address space, not memory or disk
constexpr const char* kFormatKey = "format";
constexpr const char* kFormat = "bitacora checkpoint 1";
constexpr const char* kInstanceKey = "instance";
constexpr const char* kIdentityKey = "identity";
constexpr const char* kAppliedKey = "applied_lsn";

Error bad_directory(const std::filesystem::path& directory, const std::string& what,
                    const std::string& hint) {
  return {ErrorCode::kConfiguration, fmt::format("data directory {}: {}", directory.string(), what),
          hint};
}

Error lmdb_error(int code, const char* doing) {
  return {ErrorCode::kInternal, fmt::format("checkpoint: cannot {}: {}", doing, mdb_strerror(code)),
          "check the disk of --data-dir"};
}

std::string random_instance() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

// An MDB_txn that is aborted unless committed.
class Transaction {
 public:
  Transaction(MDB_env* environment, unsigned flags)
      : begun_(mdb_txn_begin(environment, nullptr, flags, &transaction_)) {}
  ~Transaction() {
    if (transaction_ != nullptr) mdb_txn_abort(transaction_);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  int begun() const { return begun_; }
  MDB_txn* get() { return transaction_; }
  int commit() { return mdb_txn_commit(std::exchange(transaction_, nullptr)); }

 private:
  MDB_txn* transaction_ = nullptr;
  int begun_;
};

// What keeps us from making our files here.
Result<void> prepare_directory(const std::filesystem::path& directory) {
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  if (!std::filesystem::is_directory(directory, code)) {
    return bad_directory(directory, "cannot be created",
                         "choose a directory that this user may write with --data-dir");
  }
  if (::access(directory.c_str(), R_OK | W_OK | X_OK) != 0) {
    return bad_directory(directory, std::strerror(errno),
                         "give this user the rights on it, or choose another with --data-dir");
  }
  const bool ours = std::filesystem::exists(directory / "data.mdb", code);
  if (!ours && !std::filesystem::is_empty(directory, code)) {
    return bad_directory(directory, "holds files that are not a receiver's",
                         "choose an empty or new directory with --data-dir");
  }
  return {};
}

// LMDB would map pages behind the file's end, and reading them would end the process.
Result<void> check_complete(const std::filesystem::path& directory, MDB_env* environment) {
  MDB_envinfo info{};
  MDB_stat statistics{};
  mdb_env_info(environment, &info);
  mdb_env_stat(environment, &statistics);
  std::error_code code;
  const auto size = std::filesystem::file_size(directory / "data.mdb", code);
  if (!code && size >= (info.me_last_pgno + 1) * statistics.ms_psize) return {};
  return bad_directory(directory, "data.mdb is cut off",
                       "restore it, or choose another with --data-dir");
}

}  // namespace

void Checkpoint::CloseEnvironment::operator()(MDB_env* environment) const noexcept {
  mdb_env_close(environment);
}

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& directory) {
  RETURN_IF_ERROR(prepare_directory(directory));
  Checkpoint checkpoint;
  checkpoint.lock_ = Descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (::flock(checkpoint.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return bad_directory(directory, "another receiver has it open",
                         "give each receiver its own --data-dir");
  }
  MDB_env* environment = nullptr;
  if (const int code = mdb_env_create(&environment); code != 0) return lmdb_error(code, "begin");
  checkpoint.environment_.reset(environment);
  mdb_env_set_mapsize(environment, kMapBytes);
  if (const int code = mdb_env_open(environment, directory.c_str(), MDB_NOTLS, 0600); code != 0) {
    return bad_directory(
        directory, mdb_strerror(code),
        "it is damaged or not a receiver's: restore it, or choose another with --data-dir");
  }
  RETURN_IF_ERROR(check_complete(directory, environment));
  Transaction transaction(environment, 0);
  if (transaction.begun() != 0) return lmdb_error(transaction.begun(), "begin a transaction");
  if (const int code = mdb_dbi_open(transaction.get(), nullptr, 0, &checkpoint.database_);
      code != 0)
    return lmdb_error(code, "open");
  if (const int code = transaction.commit(); code != 0) return lmdb_error(code, "commit");

  ASSIGN_OR_RETURN(const auto format, checkpoint.get(kFormatKey));
  MDB_stat statistics{};
  mdb_env_stat(environment, &statistics);
  if (!format && statistics.ms_entries > 0) {
    return bad_directory(directory, "holds something else than a receiver's data",
                         "choose an empty or new directory with --data-dir");
  }
  if (format && *format != kFormat) {
    return bad_directory(directory, fmt::format("has the format \"{}\"", *format),
                         "run the version of bitacora that wrote it");
  }
  ASSIGN_OR_RETURN(const auto instance, checkpoint.get(kInstanceKey));
  checkpoint.instance_ = instance.value_or(random_instance());
  if (!instance)
    RETURN_IF_ERROR(checkpoint.put({{kFormatKey, kFormat}, {kInstanceKey, checkpoint.instance_}}));
  return checkpoint;
}

Result<std::optional<std::string>> Checkpoint::get(const std::string& key) const {
  Transaction transaction(environment_.get(), MDB_RDONLY);
  if (transaction.begun() != 0) return lmdb_error(transaction.begun(), "begin a transaction");
  MDB_val name{key.size(), const_cast<char*>(key.data())};  // LMDB does not write through it
  MDB_val value{};
  const int code = mdb_get(transaction.get(), database_, &name, &value);
  if (code == MDB_NOTFOUND) return std::optional<std::string>{};
  if (code != 0) return lmdb_error(code, "read");
  return std::optional(std::string(static_cast<const char*>(value.mv_data), value.mv_size));
}

Result<void> Checkpoint::put(const std::vector<std::pair<std::string, std::string>>& entries) {
  Transaction transaction(environment_.get(), 0);
  if (transaction.begun() != 0) return lmdb_error(transaction.begun(), "begin a transaction");
  for (const auto& [key, bytes] : entries) {
    MDB_val name{key.size(), const_cast<char*>(key.data())};
    MDB_val value{bytes.size(), const_cast<char*>(bytes.data())};
    if (const int code = mdb_put(transaction.get(), database_, &name, &value, 0); code != 0)
      return lmdb_error(code, "write");
  }
  const int code = transaction.commit();
  return code == 0 ? Result<void>{} : lmdb_error(code, "commit");
}

Result<std::optional<Progress>> Checkpoint::load() const {
  ASSIGN_OR_RETURN(const auto identity, get(kIdentityKey));
  ASSIGN_OR_RETURN(const auto applied, get(kAppliedKey));
  if (!identity || !applied) return std::optional<Progress>{};
  Progress progress;
  if (!progress.identity.ParseFromString(*identity) || applied->size() != sizeof(std::uint64_t)) {
    return Error{ErrorCode::kConfiguration, "the checkpoint in --data-dir is unreadable",
                 "move the directory away: the standby's row decides"};
  }
  progress.applied_lsn = MasterLsn{load_big_endian<std::uint64_t>(applied->data())};
  return std::optional(std::move(progress));
}

Result<void> Checkpoint::save(const Progress& progress) {
  std::string applied;
  append_big_endian(applied, progress.applied_lsn.value);
  return put({{kIdentityKey, progress.identity.SerializeAsString()}, {kAppliedKey, applied}});
}

}  // namespace bitacora::apply
