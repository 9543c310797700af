-- Eight requests at once on each connection, before the first is answered.
function init()
  requests = string.rep(wrk.format(), 8)
end

function request()
  return requests
end
