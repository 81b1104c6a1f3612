-- HAProxy asks Tokenring about a request: `http-request lua.tokenring POLICY closed|open`. docs/gateways.md has the
-- configuration around it. The sub-request goes to the proxy `tokenring` of the same HAProxy, which knows the nodes.
--
-- POLICY       the name of a policy
-- closed|open  the fate of requests while no node answers: 503, or let pass. Anything but `open` means `closed`
--
-- Reads  txn.tokenring_client            the client: 1 to 256 bytes of UTF-8, proven, not a claim of the caller
-- Sets   txn.tokenring_ratelimit, txn.tokenring_ratelimit_policy  headers for the response to an allowed request

local PROXY = "abns@tokenring"
-- A node on loopback answers under this name.
local URL = "http://localhost/v1/check/forward-auth"
-- The proxy `tokenring` gives up earlier. This bound is for a HAProxy that has no connection left for it.
local TIMEOUT_MS = 3000
local SHOWN = { "content-type", "ratelimit", "ratelimit-policy", "retry-after" }

local function header(answer, name)
  local values = (answer.headers or {})[name]
  return values and values[0]
end

local function finish(txn, status, body, headers)
  local reply = txn:reply({ status = status, body = body })
  reply:add_header("cache-control", "no-store")
  for name, value in pairs(headers or {}) do reply:add_header(name, value) end
  txn:done(reply)
end

local function ask(txn, policy, on_failure)
  local client = txn:get_var("txn.tokenring_client")
  -- A line break in the client would begin a header of its own.
  if client == nil or client:find("%c") then return finish(txn, 400, "no valid client\n") end

  local answer = core.httpclient():get({
    url = URL,
    dst = PROXY,
    timeout = TIMEOUT_MS,
    headers = { ["x-tokenring-client"] = { client }, ["x-tokenring-policy"] = { policy } },
  })

  if answer.status == 200 then
    txn:set_var("txn.tokenring_ratelimit", header(answer, "ratelimit"))
    txn:set_var("txn.tokenring_ratelimit_policy", header(answer, "ratelimit-policy"))
  elseif answer.status == 429 then
    local headers = {}
    for _, name in ipairs(SHOWN) do headers[name] = header(answer, name) end
    finish(txn, 429, answer.body, headers)
  elseif answer.status == 0 or answer.status >= 502 then
    if on_failure ~= "open" then finish(txn, 503, "the rate limiter does not answer\n") end
  else
    -- The configuration is wrong, so the caller can do nothing about it: an unknown policy, or a missing token.
    txn:Warning("tokenring: status " .. answer.status .. ": " .. tostring(answer.body))
    finish(txn, 500, "the rate limiter is configured wrongly\n")
  end
end

core.register_action("tokenring", { "http-req" }, ask, 2)
