// The status page: GET /status answers a JSON document; it takes commands as well.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/error.h"

namespace httplib {
class Server;
}

namespace bitacora::engine {

// Of what is asked to be done; its value does not matter.
inline constexpr const char* kControlHeader = "Bitacora-Control";

// POST /command?argument=...
struct ControlRequest {
  std::string command;
  std::string argument;
};

class StatusServer {
 public:
  using Control = std::function<Result<std::string>(const ControlRequest&)>;

  // `document` and `control` are called per request, from threads of the server. What is asked to
  // be done has to carry a header that no page of a browser can send on by itself. kConfiguration
  // when the address cannot be listened on.
  static Result<std::unique_ptr<StatusServer>> start(const std::string& address,
                                                     std::function<std::string()> document,
                                                     Control control = {});
  ~StatusServer();

 private:
  StatusServer();

  std::unique_ptr<httplib::Server> server_;
  std::jthread listener_;
};

}  // namespace bitacora::engine
