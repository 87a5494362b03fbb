// The status page: GET /status answers a JSON document.
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

class StatusServer {
 public:
  // `document` is called per request, from threads of the server. kConfiguration when the address
  // cannot be listened on.
  static Result<std::unique_ptr<StatusServer>> start(const std::string& address,
                                                     std::function<std::string()> document);
  ~StatusServer();

 private:
  StatusServer();

  std::unique_ptr<httplib::Server> server_;
  std::jthread listener_;
};

}  // namespace bitacora::engine
