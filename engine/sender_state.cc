#include "engine/sender_state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <charconv>
#include <cstring>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "base/fault_point.h"
namespace bitacora::engine {
namespace {

constexpr const char* kFile = "sender.toml";
constexpr const char* kFileBeside = "sender.toml.new";
constexpr std::int64_t kFormat = 1;

Error bad_directory(const std::filesystem::path& directory, const std::string& what,
                    const std::string& hint) {
  return {ErrorCode::kConfiguration,
          fmt::format("state directory {}: {}", directory.string(), what), hint};
}

bool sync_directory(const std::filesystem::path& path) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return directory.valid() && ::fsync(directory.get()) == 0;
}

bool write_synced(const std::filesystem::path& path, const std::string& text) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  return file.valid() &&
         ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
         ::fsync(file.get()) == 0;
}

toml::table as_toml(const DroppedReceiver& dropped) {
  return toml::table{{"flushed", to_string(dropped.flushed)},
                     {"wal_lsn", to_string(dropped.wal_lsn)},
                     {"limit_bytes", static_cast<std::int64_t>(dropped.limit_bytes)},
                     {"at", dropped.at}};
}

std::string as_toml(const SenderState& state) {
  toml::table receivers;
  for (const auto& [name, flushed] : state.receivers) receivers.insert(name, to_string(flushed));
  toml::table dropped;
  for (const auto& [name, each] : state.dropped) dropped.insert(name, as_toml(each));
  toml::table certificates;
  for (const auto& [name, names] : state.certificates) {
    toml::array all;
    for (const auto& each : names) all.push_back(each);
    certificates.insert(name, all);
  }
  // The system identifier is an unsigned 64-bit number, more than a TOML integer holds.
  const toml::table table{{"format", kFormat},
                          {"system_identifier", std::to_string(state.identity.system_identifier())},
                          {"database", state.identity.database()},
                          {"slot", state.identity.slot()},
                          {"stream", state.identity.stream()},
                          {"slot_from", to_string(state.slot_from)},
                          {"receivers", receivers},
                          {"dropped", dropped},
                          {"certificates", certificates}};
  std::ostringstream text;
  text << "# Written by bitacora sender. Not for editing.\n" << table << "\n";
  return text.str();
}

std::optional<MasterLsn> lsn_in(const toml::node_view<const toml::node>& node) {
  const auto lsn = parse_lsn(node.value_or(std::string()));
  return lsn ? std::optional(MasterLsn{*lsn}) : std::nullopt;
}

std::optional<DroppedReceiver> dropped_in(const toml::node_view<const toml::node>& node) {
  const auto flushed = lsn_in(node["flushed"]);
  const auto wal_lsn = lsn_in(node["wal_lsn"]);
  const auto limit = node["limit_bytes"].value<std::int64_t>();
  if (!flushed || !wal_lsn || !limit || *limit < 0) return std::nullopt;
  return DroppedReceiver{*flushed, *wal_lsn, static_cast<std::uint64_t>(*limit),
                         node["at"].value_or(std::string())};
}

std::optional<std::vector<std::string>> texts_in(const toml::node& node) {
  const auto* array = node.as_array();
  if (array == nullptr) return std::nullopt;
  std::vector<std::string> texts;
  for (const auto& each : *array) {
    const auto text = each.value<std::string>();
    if (!text) return std::nullopt;
    texts.push_back(*text);
  }
  return texts;
}

// False when one of them is not readable.
bool read_receivers(const toml::table& table, SenderState& state) {
  using View = toml::node_view<const toml::node>;
  const auto* receivers = table["receivers"].as_table();
  if (receivers == nullptr) return false;  // the last that is written: the file is cut short
  for (const auto& [name, node] : *receivers) {
    const auto flushed = lsn_in(View(node));
    if (!flushed) return false;
    state.receivers.emplace(std::string(name.str()), *flushed);
  }
  if (const auto* dropped = table["dropped"].as_table()) {
    for (const auto& [name, node] : *dropped) {
      const auto read = dropped_in(View(node));
      if (!read) return false;
      state.dropped.emplace(std::string(name.str()), *read);
    }
  }
  if (const auto* certificates = table["certificates"].as_table()) {
    for (const auto& [name, node] : *certificates) {
      const auto names = texts_in(node);
      if (!names) return false;
      state.certificates.emplace(std::string(name.str()), *names);
    }
  }
  return true;
}

std::optional<SenderState> from_toml(const toml::table& table) {
  SenderState state;
  const auto number = table["system_identifier"].value_or(std::string());
  std::uint64_t system_identifier = 0;
  const auto* end = number.data() + number.size();
  const auto [parsed_to, parsing] = std::from_chars(number.data(), end, system_identifier);
  const bool parsed = parsing == std::errc{} && parsed_to == end;
  const auto slot_from = lsn_in(table["slot_from"]);
  if (table["format"].value_or(std::int64_t{0}) != kFormat || !parsed || !slot_from)
    return std::nullopt;
  state.identity.set_system_identifier(system_identifier);
  state.identity.set_database(table["database"].value_or(std::string()));
  state.identity.set_slot(table["slot"].value_or(std::string()));
  state.identity.set_stream(table["stream"].value_or(std::string()));
  if (state.identity.database().empty() || state.identity.slot().empty() ||
      state.identity.stream().empty())
    return std::nullopt;
  state.slot_from = *slot_from;
  if (!read_receivers(table, state)) return std::nullopt;
  return state;
}

// Whatever is in the names.
bool reads_back(const std::string& text, const SenderState& state) try {
  const auto read = from_toml(toml::parse(text));
  return read && read->receivers == state.receivers && read->dropped == state.dropped &&
         read->certificates == state.certificates;
} catch (const toml::parse_error&) {
  return false;
}

}  // namespace

Result<SenderStateFile> SenderStateFile::open(const std::filesystem::path& directory) {
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  SenderStateFile file(directory);
  ASSIGN_OR_RETURN(const bool locked, file.lock());
  if (!locked) {
    return bad_directory(directory, "another sender has it open",
                         "give each sender its own --state-dir");
  }
  RETURN_IF_ERROR(file.load());
  return file;
}

Result<std::optional<SenderStateFile>> SenderStateFile::open_unless_in_use(
    const std::filesystem::path& directory) {
  SenderStateFile file(directory);
  ASSIGN_OR_RETURN(const bool locked, file.lock());
  if (!locked) return std::optional<SenderStateFile>();
  RETURN_IF_ERROR(file.load());
  if (file.state_) return std::optional(std::move(file));
  return bad_directory(directory, "no sender has been started with it",
                       "give the --state-dir of the sender, or its --http when it runs");
}

Result<bool> SenderStateFile::lock() {
  lock_ = Descriptor(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock_.valid() || ::access(directory_.c_str(), R_OK | W_OK | X_OK) != 0) {
    return bad_directory(directory_, std::strerror(errno),
                         "give this user a directory it may write with --state-dir");
  }
  return ::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0;
}

Result<void> SenderStateFile::load() try {
  const auto path = directory_ / kFile;
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    std::filesystem::remove(directory_ / kFileBeside, code);  // a first save() that was cut short
    if (std::filesystem::is_empty(directory_, code)) return {};
    return bad_directory(directory_, "holds files that are not a sender's",
                         "choose an empty or new directory with --state-dir");
  }
  state_ = from_toml(toml::parse_file(path.string()));
  if (state_) return {};
  return bad_directory(directory_, "sender.toml is not readable by this version",
                       "run the version of bitacora that wrote it");
} catch (const toml::parse_error& e) {
  return bad_directory(
      directory_, fmt::format("sender.toml line {}: {}", e.source().begin.line, e.description()),
      "restore it; it says which slot is ours");
}

Result<void> SenderStateFile::save(const SenderState& state) {
  const auto path = directory_ / kFile;
  const auto beside = directory_ / kFileBeside;
  const auto text = as_toml(state);
  if (!reads_back(text, state)) {
    return Error{
        ErrorCode::kConfiguration,
        fmt::format("{} cannot hold a name in it, of a receiver or its certificate", path.string()),
        "give that one names without control characters and quotes"};
  }
  fault_point("sender_state.before_save");
  const bool saved = write_synced(beside, text) && ::rename(beside.c_str(), path.c_str()) == 0 &&
                     sync_directory(directory_);
  if (!saved) {
    return Error{ErrorCode::kInternal,
                 fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)),
                 "check the disk of --state-dir"};
  }
  fault_point("sender_state.after_save");
  state_ = state;
  return {};
}

}  // namespace bitacora::engine
