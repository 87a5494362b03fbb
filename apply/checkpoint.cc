#include "apply/checkpoint.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/fault_point.h"

namespace bitacora::apply {
namespace {

constexpr std::size_t kMapBytes = 64u << 20;  // address space, not memory or disk
constexpr const char* kFile = "data.mdb";
constexpr const char* kFileInTheMaking = "new.mdb";
constexpr const char* kLockFile = "lock.mdb";  // LMDB's
constexpr const char* kSpool = "spool";        // a deleted checkpoint leaves it without us
constexpr const char* kFormatKey = "format";
constexpr const char* kFormat = "bitacora checkpoint 1";
constexpr const char* kInstanceKey = "instance";
constexpr const char* kIdentityKey = "identity";
constexpr const char* kAppliedKey = "applied_lsn";
constexpr const char* kSpoolKey = "spool_synced";
constexpr std::size_t kNumberBytes = sizeof(std::uint64_t);

Error bad_directory(const std::filesystem::path& directory, const std::string& what,
                    const std::string& hint, ErrorCode code = ErrorCode::kConfiguration) {
  return {code, fmt::format("data directory {}: {}", directory.string(), what), hint};
}

// The spool beside it is left as it is, and the standby's row judges.
Error damaged(const std::filesystem::path& directory, const std::string& what) {
  return {ErrorCode::kState,
          fmt::format("the checkpoint in data directory {}: {}", directory.string(), what),
          "remove data.mdb and lock.mdb there, nothing else: the standby's row in "
          "bitacora.progress says where to go on"};
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
  if (std::filesystem::exists(directory / kFile, code)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(directory, code)) {
    const auto name = entry.path().filename();
    if (name == kFileInTheMaking || name == kLockFile || name == kSpool) continue;
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
  const auto size = std::filesystem::file_size(directory / kFile, code);
  if (!code && size >= (info.me_last_pgno + 1) * statistics.ms_psize) return {};
  return damaged(directory, "data.mdb is cut off");
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
  std::error_code code;
  if (!std::filesystem::exists(directory / kFile, code))
    RETURN_IF_ERROR(make(directory, checkpoint.lock_.get()));
  if (const int opened = checkpoint.open_environment(directory, 0); opened != 0) {
    return damaged(directory, fmt::format("{} (data.mdb is damaged or not a receiver's)",
                                          mdb_strerror(opened)));
  }
  RETURN_IF_ERROR(check_complete(directory, checkpoint.environment_.get()));
  RETURN_IF_ERROR(checkpoint.open_database());
  RETURN_IF_ERROR(checkpoint.open_instance(directory));
  return checkpoint;
}

// Under another name until it is durable, and LMDB's own lock is not needed for that.
Result<void> Checkpoint::make(const std::filesystem::path& directory, int descriptor) {
  const auto file = directory / kFileInTheMaking;
  std::error_code code;
  std::filesystem::remove(file, code);  // a crash left it
  {
    Checkpoint checkpoint;
    if (const int opened = checkpoint.open_environment(file, MDB_NOSUBDIR | MDB_NOLOCK);
        opened != 0) {
      return lmdb_error(opened, "begin");
    }
    RETURN_IF_ERROR(checkpoint.open_database());
    RETURN_IF_ERROR(checkpoint.put({{kFormatKey, kFormat}, {kInstanceKey, random_instance()}}));
  }
  std::filesystem::rename(file, directory / kFile, code);
  if (code || ::fsync(descriptor) != 0) return lmdb_error(code ? code.value() : errno, "keep");
  return {};
}

int Checkpoint::open_environment(const std::filesystem::path& path, unsigned flags) {
  MDB_env* environment = nullptr;
  if (const int code = mdb_env_create(&environment); code != 0) return code;
  environment_.reset(environment);
  mdb_env_set_mapsize(environment, kMapBytes);
  return mdb_env_open(environment, path.c_str(), MDB_NOTLS | flags, 0600);
}

Result<void> Checkpoint::open_database() {
  Transaction transaction(environment_.get(), 0);
  if (transaction.begun() != 0) return lmdb_error(transaction.begun(), "begin a transaction");
  if (const int code = mdb_dbi_open(transaction.get(), nullptr, 0, &database_); code != 0)
    return lmdb_error(code, "open");
  const int code = transaction.commit();
  return code == 0 ? Result<void>{} : lmdb_error(code, "commit");
}

Result<void> Checkpoint::open_instance(const std::filesystem::path& directory) {
  ASSIGN_OR_RETURN(const auto format, get(kFormatKey));
  MDB_stat statistics{};
  mdb_env_stat(environment_.get(), &statistics);
  if (!format && statistics.ms_entries > 0) {
    return bad_directory(directory, "holds something else than a receiver's data",
                         "choose an empty or new directory with --data-dir", ErrorCode::kState);
  }
  if (format && *format != kFormat) {
    return bad_directory(directory, fmt::format("has the format \"{}\"", *format),
                         "run the version of bitacora that wrote it", ErrorCode::kState);
  }
  ASSIGN_OR_RETURN(const auto instance, get(kInstanceKey));
  instance_ = instance.value_or(random_instance());
  if (instance) return {};
  return put({{kFormatKey, kFormat}, {kInstanceKey, instance_}});
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
  fault_point("checkpoint.after_save");
  return code == 0 ? Result<void>{} : lmdb_error(code, "commit");
}

Result<std::optional<CheckpointState>> Checkpoint::load() const {
  ASSIGN_OR_RETURN(const auto identity, get(kIdentityKey));
  ASSIGN_OR_RETURN(const auto applied, get(kAppliedKey));
  ASSIGN_OR_RETURN(const auto spool, get(kSpoolKey));
  if (!identity || !applied) return std::optional<CheckpointState>{};
  CheckpointState state;
  if (!state.progress.identity.ParseFromString(*identity) || applied->size() != kNumberBytes ||
      (spool && !spool->empty() && spool->size() != 3 * kNumberBytes)) {
    return Error{ErrorCode::kState, "the checkpoint in --data-dir is unreadable",
                 "remove its data.mdb and lock.mdb, nothing else: the standby's row in "
                 "bitacora.progress says where to go on"};
  }
  state.progress.applied_lsn = MasterLsn{load_big_endian<std::uint64_t>(applied->data())};
  if (spool && !spool->empty()) {
    const auto number = [&](std::size_t i) {
      return load_big_endian<std::uint64_t>(spool->data() + i * kNumberBytes);
    };
    state.spool = SpoolNote{number(0), number(1), MasterLsn{number(2)}};
  }
  return std::optional(std::move(state));
}

Result<void> Checkpoint::save(const CheckpointState& state) {
  std::string applied;
  append_big_endian(applied, state.progress.applied_lsn.value);
  std::string spool;
  if (state.spool) {
    for (const auto number : {state.spool->segment, state.spool->bytes, state.spool->lsn.value})
      append_big_endian(spool, number);
  }
  fault_point("checkpoint.before_save");
  return put({{kIdentityKey, state.progress.identity.SerializeAsString()},
              {kAppliedKey, applied},
              {kSpoolKey, spool}});
}

}  // namespace bitacora::apply
