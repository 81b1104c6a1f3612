-- wrk's questions: POST /v1/allow, or /v1/allow/batch, for clients drawn evenly.
-- Arguments: number of clients, limit per minute, decisions a request (1: one by one), seed.

local requests = {}

local function question(client, limit)
  return string.format('{"clientId":"client-%013d","limit":%d,"window":"1m"}', client, limit)
end

function init(args)
  local clients, limit, batch = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  math.randomseed(tonumber(args[4]))
  wrk.headers['Content-Type'] = 'application/json'
  -- Made in advance, so that the generator's core has time to spare: each client once, or batches of clients drawn at random.
  if batch == 1 then
    for client = 0, clients - 1 do
      requests[client + 1] = wrk.format('POST', '/v1/allow', nil, question(client, limit))
    end
  else
    for i = 1, math.ceil(clients / batch) do
      local items = {}
      for item = 1, batch do
        items[item] = question(math.random(0, clients - 1), limit)
      end
      requests[i] = wrk.format('POST', '/v1/allow/batch', nil, '{"requests":[' .. table.concat(items, ',') .. ']}')
    end
  end
  io.stderr:write('ready\n')
end

function request()
  return requests[math.random(#requests)]
end

function done(summary)
  local errors = summary.errors
  -- Without those that took long: the generator is stopped between its turns.
  local broken = errors.connect + errors.read + errors.write
  io.write(string.format('\n{"requests":%d,"broken":%d,"refused":%d}\n', summary.requests, broken, errors.status))
end
