#include "engine/schema_dump.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "engine/child_process.h"
#include "engine/client_tools.h"
#include "engine/dump_entries.h"
#include "wal/client_environment.h"
#include "wal/schema_objects.h"

namespace bitacora::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kLook{50};
// Of the program's arguments. Linux takes 2 MiB with the environment; beyond it the tables that are
// not wanted are dumped, and left out afterwards.
constexpr std::size_t kExcludedBytesMax = 1u << 20;

// With what is in it, which only we may read.
class PrivateDirectory {
 public:
  static Result<PrivateDirectory> make() {
    const char* chosen = std::getenv("TMPDIR");
    auto path = (fs::path(chosen != nullptr && *chosen != '\0' ? chosen : "/tmp") /
                 "bitacora-schema-XXXXXX")
                    .string();
    if (mkdtemp(path.data()) == nullptr) {
      return Error{
          ErrorCode::kConfiguration,
          fmt::format("cannot create {}: {}", path, std::generic_category().message(errno)),
          "the schema's dump needs a temporary directory; TMPDIR names another"};
    }
    return PrivateDirectory(path);
  }
  PrivateDirectory(PrivateDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PrivateDirectory& operator=(PrivateDirectory&&) = delete;
  ~PrivateDirectory() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  std::string file(const std::string& name) const { return path_ / name; }

 private:
  explicit PrivateDirectory(fs::path path) : path_(std::move(path)) {}

  fs::path path_;
};

// What it wrote. However long it takes: a dump waits for locks, and `stop` ends it.
Result<std::string> output_of(const std::vector<std::string>& command,
                              const std::vector<std::string>& environment,
                              const std::stop_token& stop) try {
  const auto program = fs::path(command.front()).filename().string();
  ChildProcess process(command, environment);
  std::optional<int> exit_code;
  while (!(exit_code = process.wait(kLook))) {
    if (!stop.stop_requested()) continue;
    process.kill();
    return Error{ErrorCode::kMaster, fmt::format("{} was stopped", program)};
  }
  if (*exit_code == 0) return process.output();
  return Error{ErrorCode::kMaster, fmt::format("{} failed (exit code {}): {}", program, *exit_code,
                                               process.error_output())};
} catch (const std::system_error& e) {
  return Error{ErrorCode::kConfiguration, e.what()};
}

Result<std::vector<std::string>> connection_variables(const std::string& conninfo,
                                                      const PrivateDirectory& directory) {
  ASSIGN_OR_RETURN(auto environment, wal::client_environment(conninfo));
  const auto service = directory.file("service");
  std::ofstream file(service);
  file << environment.service;
  file.close();
  if (!file) return Error{ErrorCode::kConfiguration, fmt::format("cannot write {}", service)};
  environment.variables.push_back("PGSERVICEFILE=" + service);
  environment.variables.push_back("PGSERVICE=bitacora");
  return std::move(environment.variables);
}

std::vector<std::string> dump_command(const ClientTools& tools, const std::string& file,
                                      const std::string& snapshot,
                                      const std::vector<std::string>& unneeded_tables) {
  std::vector<std::string> command{tools.directory + "/pg_dump",
                                   "-Fc",
                                   "--schema-only",
                                   "--no-password",
                                   "--encoding=UTF8",
                                   "--no-owner",
                                   "--no-privileges",
                                   "--no-tablespaces",
                                   "--no-publications",
                                   "--no-subscriptions",
                                   "--no-security-labels",
                                   "--exclude-schema=bitacora",
                                   "--file=" + file};
  if (!snapshot.empty()) command.push_back("--snapshot=" + snapshot);
  std::size_t bytes = 0;
  for (const auto& table : unneeded_tables) bytes += table.size() + sizeof "--exclude-table=";
  if (bytes <= kExcludedBytesMax) {
    for (const auto& table : unneeded_tables) command.push_back("--exclude-table=" + table);
  }
  return command;
}

Result<std::vector<DumpEntry>> read_section(const ClientTools& tools, const std::string& file,
                                            const char* section, const std::stop_token& stop) {
  ASSIGN_OR_RETURN(
      const auto text,
      output_of({tools.directory + "/pg_restore", "--verbose", "--no-owner", "--no-privileges",
                 "--no-tablespaces", "--no-publications", "--no-subscriptions",
                 "--no-security-labels", fmt::format("--section={}", section), "--file=-", file},
                {}, stop));
  return cut_dump(text);
}

// What is of this server, of its roles, or of data.
bool is_left_out(const std::string& type) {
  static constexpr std::array<std::string_view, 4> kTypes = {"EVENT TRIGGER", "USER MAPPING",
                                                             "LARGE OBJECT", "ACL"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end() ||
         type.starts_with("PUBLICATION") || type.starts_with("SUBSCRIPTION") ||
         type.starts_with("DATABASE") || type.starts_with("BLOB");
}

// Which entries go to the standby.
class Selection {
 public:
  Selection(const std::set<wal::CatalogObject>* needed, std::set<wal::CatalogObject> existing)
      : needed_(needed), existing_(std::move(existing)) {}

  // Both sections, since entries are about entries of the other one.
  void add(const std::vector<DumpEntry>& entries) {
    for (const auto& entry : entries) by_id_.emplace(entry.id, &entry);
  }
  // Afterwards keeps() answers.
  void decide() {
    for (const auto& [id, entry] : by_id_) {
      if (entry->catalog != 0 && chosen(*entry)) kept_.insert(id);
    }
    std::size_t known = 0;
    do {
      known = come_by_attaching_.size();
      for (const auto& [id, entry] : by_id_) {
        if (entry->entry.type() == "INDEX ATTACH") decide_index(*entry);
      }
    } while (known != come_by_attaching_.size());
    for (const int id : come_by_attaching_) kept_.erase(id);
    for (const auto& [id, entry] : by_id_) {
      if (entry->catalog == 0 && follows(*entry)) kept_.insert(id);
    }
  }
  bool keeps(const DumpEntry& entry) const { return kept_.contains(entry.id); }

 private:
  bool exists(const DumpEntry& entry) const {
    return existing_.contains({entry.catalog, entry.oid});
  }
  bool chosen(const DumpEntry& entry) const {
    return !is_left_out(entry.entry.type()) && !exists(entry) &&
           (needed_ == nullptr || needed_->contains({entry.catalog, entry.oid}));
  }

  // A partition that is attached to a table of the standby gets that one's indexes by it, and so do
  // its own partitions.
  void decide_index(const DumpEntry& attach) {
    std::optional<int> own;
    bool root_has_it = false;
    for (const int id : attach.dependencies) {
      const auto found = by_id_.find(id);
      if (found == by_id_.end() || !is_index(*found->second)) continue;
      if (is_attached_by(attach.entry, found->second->entry)) {
        own = id;
      } else {
        root_has_it = root_has_it || exists(*found->second) || come_by_attaching_.contains(id);
      }
    }
    if (own && root_has_it) come_by_attaching_.insert(*own);
  }
  static bool is_index(const DumpEntry& entry) {
    return entry.entry.type() == "INDEX" || entry.entry.type() == "CONSTRAINT";
  }
  // A constraint is named after its table as well.
  static bool is_attached_by(const pb::SchemaEntry& attach, const pb::SchemaEntry& index) {
    return attach.schema() == index.schema() &&
           (attach.name() == index.name() || index.name().ends_with(" " + attach.name()));
  }

  // What is about other entries goes with them: comments, what belongs to whom. A partition is
  // attached to a table of the standby as well.
  bool follows(const DumpEntry& entry) const {
    const bool attaches = entry.entry.type() == "TABLE ATTACH";
    bool known = false;
    for (const int id : entry.dependencies) {
      const auto found = by_id_.find(id);
      if (found == by_id_.end()) continue;
      known = true;
      const auto& other = *found->second;
      const bool itself =
          other.entry.name() == entry.entry.name() && other.entry.schema() == entry.entry.schema();
      if (kept_.contains(id) || (attaches && !itself && exists(other))) continue;
      return false;
    }
    return known ? !describes_extension(entry)
                 : needed_ == nullptr && !is_left_out(entry.entry.type());
  }
  // It comes with the extension, and only its owner may say it again.
  static bool describes_extension(const DumpEntry& entry) {
    return entry.entry.type() == "COMMENT" && entry.entry.name().starts_with("EXTENSION ");
  }

  const std::set<wal::CatalogObject>* needed_;  // nullptr: everything
  const std::set<wal::CatalogObject> existing_;
  std::map<int, const DumpEntry*> by_id_;
  std::set<int> kept_;
  std::set<int> come_by_attaching_;
};

Result<ClientTools> tools_for(wal::MasterSession& master, const std::string& bin_dir) {
  ASSIGN_OR_RETURN(const auto facts, master.facts());
  return find_client_tools(bin_dir, facts.server_version / 10000);
}

}  // namespace

Result<pb::DumpedSchema> dump_schema(wal::MasterSession& master, const SchemaDumpOptions& options,
                                     const std::stop_token& stop) {
  ASSIGN_OR_RETURN(const auto tools, tools_for(master, options.bin_dir));
  const bool everything = options.tables.empty();
  wal::SchemaObjects objects;
  if (!everything) {
    ASSIGN_OR_RETURN(objects, wal::needed_objects(master, options.tables, options.snapshot));
  }
  ASSIGN_OR_RETURN(auto existing, wal::objects_of(master, options.existing, options.snapshot));
  ASSIGN_OR_RETURN(const auto directory, PrivateDirectory::make());
  ASSIGN_OR_RETURN(const auto variables, connection_variables(options.conninfo, directory));
  const auto file = directory.file("schema");
  RETURN_IF_ERROR(output_of(dump_command(tools, file, options.snapshot, objects.unneeded_tables),
                            variables, stop));
  ASSIGN_OR_RETURN(const auto before, read_section(tools, file, "pre-data", stop));
  ASSIGN_OR_RETURN(const auto after, read_section(tools, file, "post-data", stop));
  Selection selection(everything ? nullptr : &objects.needed, std::move(existing));
  selection.add(before);
  selection.add(after);
  selection.decide();
  pb::DumpedSchema dumped;
  for (const auto& entry : before)
    if (selection.keeps(entry)) *dumped.add_pre_data() = entry.entry;
  for (const auto& entry : after)
    if (selection.keeps(entry)) *dumped.add_post_data() = entry.entry;
  return dumped;
}

}  // namespace bitacora::engine
