#include "engine/status_command.h"

#include <httplib.h>

#include <iostream>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "base/interruptible_sleep.h"
#include "engine/human.h"

namespace bitacora::engine {
namespace {

std::string shown(const std::string& key, const nlohmann::ordered_json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (key.ends_with("_bytes")) return human_bytes(value.get<double>());
  if (key.ends_with("_seconds")) return fmt::format("{:.1f} s", value.get<double>());
  return value.dump();
}

std::string line(const std::string& key, const std::string& value) {
  return fmt::format("  {:<15} {}\n", key, value);
}

std::string receiver_line(const nlohmann::ordered_json& receiver) {
  const bool connected = receiver.value("connected", false);
  return fmt::format("{}, received {}, flushed {}, applied {}, queued {}",
                     connected ? "connected" : "not connected", shown("", receiver["received_lsn"]),
                     shown("", receiver["flushed_lsn"]), shown("", receiver["applied_lsn"]),
                     shown("queued_bytes", receiver["queued_bytes"]));
}

std::string dropped_line(const nlohmann::ordered_json& dropped) {
  return fmt::format("dropped at {}, flushed {}, the master's WAL ended at {}, limit {}",
                     shown("", dropped["dropped_at"]), shown("", dropped["flushed_lsn"]),
                     shown("", dropped["wal_lsn"]), shown("limit_bytes", dropped["limit_bytes"]));
}

// What a receiver copies, or has copied since it was started.
std::string copy_line(const nlohmann::ordered_json& copy) {
  const auto& waiting = copy["waiting_for"];
  return fmt::format("{}, {} of {} tables, {} rows, {}, {} of {} steps after them, {}{}",
                     copy.value("phase", "?"), copy["tables_copied"].dump(), copy["tables"].dump(),
                     human_count(copy.value("rows", std::uint64_t{0})),
                     human_bytes(copy.value("bytes", 0.0)), copy["steps_done"].dump(),
                     copy["steps"].dump(), human_seconds(copy.value("seconds", 0.0)),
                     waiting.is_string() ? ", waiting: " + waiting.get<std::string>() : "");
}

}  // namespace

Result<std::string> fetch_status(const std::string& address) {
  httplib::Client client("http://" + address);
  client.set_connection_timeout(4);
  client.set_read_timeout(4);
  const auto response = client.Get("/status");
  if (response && response->status == 200) return response->body;
  return Error{ErrorCode::kNetwork, fmt::format("nothing answers at http://{}/status", address),
               "check that the process runs and what its --http says"};
}

std::string render_status(const std::string& document) {
  const auto fields = nlohmann::ordered_json::parse(document);
  const bool sender = fields.value("role", "") == "sender";
  std::string text = fmt::format("{} {}\n", fields.value("role", "?"),
                                 fields.value(sender ? "stream" : "name", "?"));
  for (const auto& [key, value] : fields.items()) {
    if (key == "role" || key == "stream" || key == "name" || value.is_array()) continue;
    text += line(key, value.is_object() ? copy_line(value) : shown(key, value));
  }
  if (!sender) return text;
  for (const auto& receiver : fields["receivers"])
    text += line("receiver " + receiver.value("name", "?"), receiver_line(receiver));
  if (fields["receivers"].empty()) text += line("receivers", "none yet");
  for (const auto& dropped : fields.value("dropped_receivers", nlohmann::ordered_json::array()))
    text += line("receiver " + dropped.value("name", "?"), dropped_line(dropped));
  for (const auto& table : fields["tables"])
    text +=
        line("table " + table.value("table", "?"),
             fmt::format("{} rows, {}", table["rows"].dump(), shown("row_bytes", table["bytes"])));
  return text;
}

Result<void> run_status(const StatusOptions& options, std::stop_token stop) {
  do {
    ASSIGN_OR_RETURN(const auto document, fetch_status(options.http));
    std::cout << (options.json ? document + "\n" : render_status(document)) << std::flush;
  } while (options.watch && interruptible_sleep(std::chrono::seconds(1), stop));
  return {};
}

}  // namespace bitacora::engine
