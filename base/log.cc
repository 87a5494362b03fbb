#include "base/log.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace bitacora {
namespace {

struct Secrets {
  std::mutex mutex;
  // Guarded by mutex. Longest first: a secret that contains another must not leave its rest behind.
  std::vector<std::string> values;
};

Secrets& secrets() {
  static Secrets instance;
  return instance;
}

// The message text with secrets replaced and, for JSON, quotes and control bytes escaped.
class MessageFlag : public spdlog::custom_flag_formatter {
 public:
  explicit MessageFlag(bool json) : json_(json) {}

  void format(const spdlog::details::log_msg& msg, const std::tm& /*time*/,
              spdlog::memory_buf_t& out) override {
    const std::string text = redacted(std::string_view(msg.payload.data(), msg.payload.size()));
    for (const char c : text) append(c, out);
  }

  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<MessageFlag>(json_);
  }

 private:
  void append(char c, spdlog::memory_buf_t& out) const {
    const auto byte = static_cast<unsigned char>(c);
    if (json_ && (c == '"' || c == '\\')) {
      out.push_back('\\');
      out.push_back(c);
    } else if (byte < 0x20) {
      out.push_back(' ');  // one event is one line
    } else {
      out.push_back(c);
    }
  }

  bool json_;
};

std::shared_ptr<spdlog::logger> make_logger() {
  auto logger = std::make_shared<spdlog::logger>("bitacora",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(logger);
  return logger;
}

}  // namespace

void start_logging(LogFormat format, bool verbose) {
  const bool json = format == LogFormat::kJson;
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<MessageFlag>('*', json);
  formatter->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%*"})"
                              : "%Y-%m-%dT%H:%M:%S.%e%z %l %*");
  static const auto logger = make_logger();
  logger->set_formatter(std::move(formatter));
  logger->set_level(verbose ? spdlog::level::debug : spdlog::level::info);
}

void redact_in_logs(std::string_view secret) {
  if (secret.empty()) return;
  const std::lock_guard lock(secrets().mutex);
  auto& values = secrets().values;
  if (std::find(values.begin(), values.end(), secret) != values.end()) return;
  const auto shorter = [&](const std::string& known) { return known.size() < secret.size(); };
  values.emplace(std::find_if(values.begin(), values.end(), shorter), secret);
}

std::string redacted(std::string_view text) {
  std::string out(text);
  const std::lock_guard lock(secrets().mutex);
  for (const auto& secret : secrets().values) {
    for (auto at = out.find(secret); at != std::string::npos; at = out.find(secret, at + 3)) {
      out.replace(at, secret.size(), "***");
    }
  }
  return out;
}

}  // namespace bitacora
