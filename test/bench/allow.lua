-- wrk's questions: POST /v1/allow, or /v1/allow/batch, for clients drawn evenly.
-- Arguments: numbers of clients, as 8 for 0 to 7, as 3,5 for those two, or as @path of a file with such a list; limit per minute; decisions a request (1: one by one); seed.

local requests = {}

local function question(client, limit)
  return string.format('{"clientId":"client-%013d","limit":%d,"window":"1m"}', client, limit)
end

function init(args)
  local limit, batch = tonumber(args[2]), tonumber(args[3])
  local clients = {}
  local list = args[1]
  if list:sub(1, 1) == '@' then
    list = io.open(list:sub(2)):read('*a')
  end
  if list:find(',') then
    for client in list:gmatch('%d+') do
      clients[#clients + 1] = tonumber(client)
    end
  else
    for client = 0, tonumber(list) - 1 do
      clients[#clients + 1] = client
    end
  end
  math.randomseed(tonumber(args[4]))
  wrk.headers['Content-Type'] = 'application/json'
  -- Made in advance, so that the generator's core has time to spare: each client once, or batches of clients drawn at random.
  if batch == 1 then
    for i, client in ipairs(clients) do
      requests[i] = wrk.format('POST', '/v1/allow', nil, question(client, limit))
    end
  else
    for i = 1, math.ceil(#clients / batch) do
      local items = {}
      for item = 1, batch do
        items[item] = question(clients[math.random(#clients)], limit)
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
