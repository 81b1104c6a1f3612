-- Stands for Kong around the Lua of docs/gateways.md: its sandbox (kong/tools/sandbox), the parts of `kong` that the Lua
-- uses (kong/pdk), and `request_uri` of lua-resty-http. nginx runs it in its access phase.
local Client = {}
Client.__index = Client

function Client:set_timeouts(connect_ms, send_ms, read_ms)
  self.timeouts = { connect_ms, send_ms, read_ms }
end

function Client:request_uri(uri, params)
  local host, port, path = uri:match("^http://([^:/]+):(%d+)(/.*)$")
  local socket = ngx.socket.tcp()
  socket:settimeouts(unpack(self.timeouts))
  local connected, failure = socket:connect(host, tonumber(port))
  if not connected then return nil, failure end
  local lines = { "GET " .. path .. " HTTP/1.1", "Host: " .. host, "Connection: close" }
  for name, value in pairs(params.headers) do lines[#lines + 1] = name .. ": " .. value end
  socket:send(table.concat(lines, "\r\n") .. "\r\n\r\n")
  local answer
  answer, failure = socket:receive("*a")
  socket:close()
  if not answer then return nil, failure end
  local head, body = answer:match("^(.-)\r\n\r\n(.*)$")
  local found = {}
  for name, value in head:gmatch("\r\n([^:]+): ([^\r]*)") do found[name:lower()] = value end
  local headers = setmetatable({}, { __index = function(_, name) return found[name:lower()] end })
  return { status = tonumber(head:match("^HTTP/1.1 (%d+)")), headers = headers, body = body }
end

local function set_header(name, value)
  assert(type(value) == "string", "kong.response.set_header: a value must be a string")
  ngx.header[name] = value
end

local kong = {
  client = { get_forwarded_ip = function() return ngx.var.remote_addr end },
  log = { err = function(...) ngx.log(ngx.ERR, ...) end },
  response = {
    set_header = set_header,
    exit = function(status, body, headers)
      ngx.status = status
      for name, value in pairs(headers or {}) do set_header(name, value) end
      ngx.print(body)
      ngx.exit(status)
    end,
  },
}

local sandbox = { ipairs = ipairs, pairs = pairs, ngx = ngx, kong = kong }
function sandbox.require(name)
  assert(name == "resty.http", "require is not allowed in the sandbox")
  return { new = function() return setmetatable({}, Client) end }
end

local file = assert(io.open(ngx.var.documented))
local code = file:read("*a")
file:close()
setfenv(assert(loadstring(code)), sandbox)()()
