#include "engine/receiver_registry.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/log.h"
#include "engine/human.h"

namespace bitacora::engine {
namespace {

// A receiver looks for its sender every five seconds, and needs nine to notice a link that went
// silent. Whoever is away for a moment is not dropped, however far behind it is.
constexpr std::chrono::seconds kAbsenceMin{15};

std::string now_utc() { return fmt::format("{:%Y-%m-%d %H:%M:%SZ}", fmt::gmtime(std::time({}))); }

std::vector<std::string> names(const SenderState& state) {
  std::vector<std::string> all;
  for (const auto& [name, flushed] : state.receivers) all.push_back(name);
  for (const auto& [name, dropped] : state.dropped) all.push_back(name + " (dropped)");
  return all;
}

// As messages say it.
std::string named(const std::vector<std::string>& names) {
  return names.empty() ? "without a name" : fmt::format("{}", fmt::join(names, ", "));
}

Result<void> check_owner_in(const SenderState& state, const std::string& receiver,
                            const transport::Peer& peer) {
  const auto owner = state.certificates.find(receiver);
  if (!peer.has_certificate || owner == state.certificates.end()) return {};
  const auto& names = owner->second;
  if (names == peer.names || std::find_first_of(names.begin(), names.end(), peer.names.begin(),
                                                peer.names.end()) != names.end())
    return {};
  return Error{
      ErrorCode::kConfiguration,
      fmt::format("receiver {} belongs to the certificate {}, this one is {}", receiver,
                  named(names), named(peer.names)),
      fmt::format("give this receiver its own --name; if it is the same host under another "
                  "name, let its certificate have both names once, or run on the sender: "
                  "bitacora sender --forget {}",
                  receiver)};
}

void say_dropped(const transport::ReceiverState& receiver, MasterLsn wal_end, std::uint64_t limit) {
  const auto flushed = receiver.positions.flushed;
  spdlog::error(
      "event=receiver_dropped receiver={} flushed={} kept_bytes={} limit={} meaning=\"it is away, "
      "and the slot is held for it no more: as soon as the slot has moved on it has a gap\" "
      "hint=\"begin that receiver anew (its refusal says how), or bitacora sender --forget {}\"",
      receiver.receiver, to_string(flushed), wal_end.value - flushed.value, limit,
      receiver.receiver);
}

}  // namespace

std::string held_from(const std::map<std::string, MasterLsn>& receivers) {
  const auto slowest =
      std::min_element(receivers.begin(), receivers.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (slowest == receivers.end())
    return "nobody holds the slot any more: it stays where it is until a receiver comes";
  return fmt::format("the slot is held from {} on, by {}", to_string(slowest->second),
                     slowest->first);
}

Result<void> forget_in(SenderState& state, const std::string& receiver) {
  const auto registered = state.receivers.erase(receiver);
  const auto dropped = state.dropped.erase(receiver);
  const auto owned = state.certificates.erase(receiver);
  if (registered + dropped + owned > 0) return {};
  return transport::not_registered(receiver, names(state));
}

ReceiverRegistry::ReceiverRegistry(transport::SubscriptionHub& hub, transport::SlotHold& hold,
                                   SenderStateFile file, std::uint64_t keep_bytes_max)
    : hub_(hub), hold_(hold), keep_bytes_max_(keep_bytes_max), file_(std::move(file)) {
  for (const auto& [receiver, flushed] : file_.state()->receivers)
    hub_.restore_receiver(receiver, flushed);
}

MasterLsn ReceiverRegistry::slot_from() const {
  const std::lock_guard lock(mutex_);
  return file_.state()->slot_from;
}

Result<void> ReceiverRegistry::check_owner(const std::string& receiver,
                                           const transport::Peer& peer) const {
  const std::lock_guard lock(mutex_);
  return check_owner_in(*file_.state(), receiver, peer);
}

Result<void> ReceiverRegistry::note_registered(const transport::Subscription& subscription,
                                               const transport::Peer& peer) {
  const std::lock_guard lock(mutex_);
  const auto& receiver = subscription.receiver();
  if (!hub_.is_registered(receiver)) return {};  // it has gone, and was forgotten
  RETURN_IF_ERROR(check_owner_in(*file_.state(), receiver, peer));  // once more: time has passed
  SenderState state = *file_.state();
  const auto from = subscription.start_lsn();
  const auto [noted, is_new] = state.receivers.try_emplace(receiver, from);
  const bool came_back = state.dropped.erase(receiver) != 0;
  noted->second = std::min(noted->second, from);
  if (peer.has_certificate) state.certificates[receiver] = peer.names;
  const bool owner_changed = state.certificates != file_.state()->certificates;
  const bool moved = is_new || noted->second != file_.state()->receivers.at(receiver);
  return moved || came_back || owner_changed ? file_.save(state) : Result<void>();
}

void ReceiverRegistry::forget_unnoted(const std::string& receiver) {
  const std::lock_guard lock(mutex_);
  if (file_.state()->receivers.contains(receiver)) return;
  const auto nothing_noted = [](const auto&) { return Result<void>(); };
  // Else it has come back meanwhile, and was noted.
  [[maybe_unused]] const auto forgotten = hold_.forget(receiver, nothing_noted);
}

// Registering is saved by the connection that does it; withdrawing is not.
bool ReceiverRegistry::somebody_withdrew() const {
  const std::lock_guard lock(mutex_);
  return hub_.receivers().size() < file_.state()->receivers.size();
}

std::map<std::string, MasterLsn> ReceiverRegistry::positions() const {
  std::map<std::string, MasterLsn> all;
  for (const auto& each : hub_.receivers())
    all.insert_or_assign(each.receiver, each.positions.flushed);
  return all;
}

void ReceiverRegistry::note_positions() {
  const std::lock_guard lock(mutex_);
  SenderState state = *file_.state();
  state.receivers = positions();
  if (state.receivers == file_.state()->receivers) return;
  const auto saved = file_.save(state);
  if (!saved.ok()) spdlog::warn("event=state_not_saved reason=\"{}\"", one_line(saved.error()));
}

Result<void> ReceiverRegistry::save_dropped(const std::vector<transport::ReceiverState>& receivers,
                                            MasterLsn wal_end) {
  SenderState state = *file_.state();
  for (const auto& each : receivers) {
    state.receivers.erase(each.receiver);
    state.dropped[each.receiver] = {each.positions.flushed, wal_end, keep_bytes_max_, now_utc()};
  }
  return file_.save(state);
}

void ReceiverRegistry::drop_absent(MasterLsn wal_end) {
  if (keep_bytes_max_ == 0 || wal_end.value <= keep_bytes_max_) return;
  const std::lock_guard lock(mutex_);
  const auto dropped =
      hold_.drop_absent(MasterLsn{wal_end.value - keep_bytes_max_}, kAbsenceMin,
                        [&](const auto& receivers) { return save_dropped(receivers, wal_end); });
  if (!dropped.ok()) {
    spdlog::warn("event=state_not_saved reason=\"{}\"", one_line(dropped.error()));
    return;
  }
  for (const auto& each : *dropped) say_dropped(each, wal_end, keep_bytes_max_);
}

std::map<std::string, DroppedReceiver> ReceiverRegistry::dropped() const {
  const std::lock_guard lock(mutex_);
  return file_.state()->dropped;
}

Error ReceiverRegistry::explained(Error gap, const std::string& receiver) const {
  const std::lock_guard lock(mutex_);
  const auto& dropped = file_.state()->dropped;
  const auto found = dropped.find(receiver);
  if (found == dropped.end()) return gap;
  gap.message += fmt::format(
      "; it was dropped at {}, being away while the master kept more than "
      "--max-receiver-keep-size ({}) for it",
      found->second.at, human_bytes(static_cast<double>(found->second.limit_bytes)));
  return gap;
}

Result<std::string> ReceiverRegistry::forget(const std::string& receiver) {
  const std::lock_guard lock(mutex_);
  SenderState state = *file_.state();
  state.receivers = positions();
  const transport::SlotHold::Note save = [&](const auto&) -> Result<void> {
    RETURN_IF_ERROR(forget_in(state, receiver));
    return file_.save(state);
  };
  const bool holds = state.receivers.contains(receiver);
  const auto saved = holds ? hold_.forget(receiver, save) : save({});
  if (!saved.ok()) return saved.error();
  spdlog::info("event=receiver_forgotten receiver={}", receiver);
  return fmt::format("receiver {} is forgotten; {}", receiver, held_from(state.receivers));
}

MasterLsn ReceiverRegistry::releasable(MasterLsn wal_end, std::uint64_t retained_bytes) {
  if (const auto held = hold_.report()) return held->flushed;
  const bool too_much = keep_bytes_max_ != 0 && retained_bytes > keep_bytes_max_;
  if (!too_much || dropped().empty() || !hold_.release(wal_end)) return {};
  return wal_end;
}

}  // namespace bitacora::engine
