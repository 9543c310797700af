-- Milliseconds between an answer and the next request.
function delay()
  return math.random(0, 20)
end
