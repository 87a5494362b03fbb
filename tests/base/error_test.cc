#include "base/error.h"

#include <gtest/gtest.h>

#include <memory>

namespace bitacora {
namespace {

TEST(Error, OneLineWhateverTheMessageCarries) {
  struct Case {
    const char* name;
    Error error;
    const char* line;
  };
  for (const Case& c : {
           Case{"message alone", {ErrorCode::kMaster, "slot is active"}, "slot is active"},
           Case{"message and hint", {ErrorCode::kState, "a gap", "resync"}, "a gap; resync"},
           Case{"line breaks of a server",
                {ErrorCode::kStandby, "ERROR:  no\nDETAIL:\tKey (id)\r\n", "try\nagain\n"},
                "ERROR: no DETAIL: Key (id); try again"},
           Case{"white space at both ends", {ErrorCode::kUsage, "\n a \n", " b "}, "a; b"},
           Case{"other languages", {ErrorCode::kUsage, "bitácora\u00a0ñ"}, "bitácora\u00a0ñ"},
       }) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(one_line(c.error), c.line);
  }
}

TEST(Error, ExitCodesAreThoseOfTheCommandLine) {
  int expected = 1;
  for (const auto code :
       {ErrorCode::kUsage, ErrorCode::kConfiguration, ErrorCode::kState, ErrorCode::kMaster,
        ErrorCode::kStandby, ErrorCode::kNetwork, ErrorCode::kInternal}) {
    EXPECT_EQ(exit_code(Error{code, ""}), expected++);
  }
}

TEST(Error, HealsUnlessItStops) {
  EXPECT_FALSE((Error{ErrorCode::kState, ""}).heals());
  EXPECT_TRUE((Error{ErrorCode::kNetwork, "", "", Recovery::kRetry}).heals());
  EXPECT_TRUE((Error{ErrorCode::kStandby, "", "", Recovery::kInDoubt}).heals());
}

Result<std::unique_ptr<int>> positive(int number) {
  if (number <= 0) return Error{ErrorCode::kUsage, "not positive"};
  return std::make_unique<int>(number);
}

Result<void> check_positive(int number) {
  ASSIGN_OR_RETURN(const auto value, positive(number));
  EXPECT_EQ(*value, number);
  return {};
}

Result<int> twice(int number) {
  RETURN_IF_ERROR(check_positive(number));
  return 2 * number;
}

TEST(Result, ErrorsTravelThroughTheMacros) {
  ASSERT_TRUE(twice(4).ok());
  EXPECT_EQ(*twice(4), 8);
  const auto refused = twice(-1);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_EQ(refused.error().message, "not positive");
}

TEST(ResultDeathTest, TheWrongHalfIsOurBug) {
  EXPECT_DEATH(static_cast<void>(twice(-1).value()), "CHECK failed: ok\\(\\)");
  EXPECT_DEATH(static_cast<void>(twice(1).error()), "CHECK failed: !ok\\(\\)");
}

}  // namespace
}  // namespace bitacora
