#include "base/log.h"

#include <gtest/gtest.h>

namespace bitacora {
namespace {

std::string logged(LogFormat format, const std::string& message) {
  testing::internal::CaptureStderr();
  start_logging(format, false);
  spdlog::warn("event=test {}", message);
  spdlog::debug("event=not_verbose");
  return testing::internal::GetCapturedStderr();
}

TEST(Redaction, EverySecretIsReplaced) {
  redact_in_logs("");
  redact_in_logs("tiger");
  redact_in_logs("tiger-and-more");
  redact_in_logs("p\"w\\d");
  redact_in_logs("tiger");
  struct Case {
    const char* name;
    const char* text;
    const char* shown;
  };
  for (const Case& c : {
           Case{"nothing to hide", "host=a user=b", "host=a user=b"},
           Case{"in the middle", "password=tiger host=a", "password=*** host=a"},
           Case{"twice", "tiger tigertiger", "*** ******"},
           Case{"the longer secret leaves no rest", "x=tiger-and-more", "x=***"},
           Case{"special characters", "x=p\"w\\d.", "x=***."},
           Case{"other case is another word", "Tiger", "Tiger"},
       }) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(redacted(c.text), c.shown);
    const auto line = logged(LogFormat::kText, c.text);
    EXPECT_NE(line.find(std::string("event=test ") + c.shown), std::string::npos) << line;
  }
}

TEST(Logging, OneEventIsOneLine) {
  const auto line = logged(LogFormat::kText, "a\nb\tc");
  EXPECT_EQ(line.substr(line.find(' ')), " warning event=test a b c\n");
}

TEST(Logging, JsonIsEscapedAfterRedaction) {
  redact_in_logs("s\"ecret");
  const auto line = logged(LogFormat::kJson, "reason=\"s\"ecret\" path=C:\\x\n");
  EXPECT_EQ(line.substr(line.find("\"level\"")),
            "\"level\":\"warning\",\"message\":\"event=test reason=\\\"***\\\" path=C:\\\\x \"}\n");
}

}  // namespace
}  // namespace bitacora
