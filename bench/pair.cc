#include "bench/pair.h"

#include <httplib.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "bench/patience.h"
#include "engine/throwaway_cluster.h"
#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr std::chrono::seconds kPatience{30};

std::string loopback_address(int port) { return fmt::format("127.0.0.1:{}", port); }

int free_port() { return engine::free_loopback_port().value(); }

void throw_if_ended(engine::ChildProcess& process, const char* role) {
  if (process.running()) return;
  throw std::runtime_error(
      fmt::format("the {} ended by itself:\n{}{}", role, process.output(), process.error_output()));
}

nlohmann::json status_page(const std::string& http, const std::function<void()>& throw_if_ended) {
  httplib::Client client("http://" + http);
  std::optional<std::string> page;
  await(
      "the status page at " + http,
      [&] {
        throw_if_ended();
        const auto response = client.Get("/status");
        if (response && response->status == 200) page = response->body;
        return page.has_value();
      },
      kPatience);
  return nlohmann::json::parse(*page);
}

std::vector<std::string> receiver_command(const Sender& sender, const ReceiverIdentity& identity,
                                          const std::string& address, const std::string& http,
                                          const std::vector<std::string>& arguments) {
  std::vector<std::string> command{
      BITACORA_BINARY,  "receiver",      "--sender",        address,  "--standby",
      identity.standby, "--data-dir",    identity.data_dir, "--name", identity.name,
      "--stream",       sender.stream(), "--http",          http};
  command.insert(command.end(), identity.copy.begin(), identity.copy.end());
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

}  // namespace

WorkingDirectory::WorkingDirectory(std::filesystem::path path) : path_(std::move(path)) {
  std::filesystem::create_directories(path_);
}

WorkingDirectory::~WorkingDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Sender::Sender(const std::string& master, std::string stream,
               const std::filesystem::path& state_dir)
    : http_(loopback_address(free_port())),
      stream_(std::move(stream)),
      port_(free_port()),
      address_(loopback_address(port_)),
      process_({BITACORA_BINARY, "sender", "--master", master, "--stream", stream_, "--listen",
                address_, "--state-dir", state_dir, "--http", http_}) {
  const auto look = fmt::format(
      "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL AND "
      "slot_name = 'bitacora_{}'",
      stream_);
  await(
      "the slot of " + stream_,
      [&] {
        throw_if_ended();
        return harness::query_value(master, look) == "1";
      },
      kPatience);
}

void Sender::throw_if_ended() { bench::throw_if_ended(process_, "sender"); }

int Sender::receivers_read_for_together() {
  const auto page = status_page(http_, [this] { throw_if_ended(); });
  const auto& receivers = page.at("receivers");
  return static_cast<int>(std::count_if(receivers.begin(), receivers.end(), [](const auto& each) {
    return each.at("reader") == "live";
  }));
}

Receiver::Receiver(const Sender& sender, const ReceiverIdentity& identity,
                   const std::vector<std::string>& arguments)
    : Receiver(sender, identity, sender.address(), arguments) {}

Receiver::Receiver(const Sender& sender, const ReceiverIdentity& identity,
                   const std::string& address, const std::vector<std::string>& arguments)
    : http_(loopback_address(free_port())),
      process_(receiver_command(sender, identity, address, http_, arguments)) {}

void Receiver::throw_if_ended() { bench::throw_if_ended(process_, "receiver"); }

ReceiverState Receiver::state() {
  const auto fields = status_page(http_, [this] { throw_if_ended(); });
  const auto lsn = [&](const char* name) {
    const auto& text = fields.at(name);
    return MasterLsn{text.is_null() ? 0 : parse_lsn(text.get<std::string>()).value_or(0)};
  };
  const auto number = [&](const char* name) { return fields.at(name).get<std::uint64_t>(); };
  return {lsn("flushed_lsn"), lsn("applied_lsn"), number("transactions"), number("rows"),
          number("spool_bytes")};
}

int Receiver::exact_path_retries() const {
  constexpr std::string_view kEvent = "event=exact_path";
  const auto log = process_.output() + process_.error_output();
  int found = 0;
  for (auto at = log.find(kEvent); at != std::string::npos; at = log.find(kEvent, at + 1)) ++found;
  return found;
}

void Receiver::stop() {
  process_.signal(SIGTERM);
  const auto exit_code = process_.wait(kPatience);
  if (exit_code == 0) return;
  throw std::runtime_error(fmt::format("the receiver did not stop: {}\n{}{}",
                                       exit_code.value_or(-1), process_.output(),
                                       process_.error_output()));
}

}  // namespace bitacora::bench
