-- Verdict words in bold become badges; a division `wide` gives its table the full width, in proportions.
local words = {}
for word in ("reproduced exceeded differs reduced incomparable pending holds refuted fails"):gmatch("%a+") do
  words[word] = true
end

function Strong(element)
  local word = pandoc.utils.stringify(element)
  if not words[word] then
    return nil
  elseif FORMAT:match("typst") then
    return pandoc.RawInline("typst", '#verdict("' .. word .. '")')
  else
    return pandoc.Span(element.content, { class = "verdict " .. word })
  end
end

function Div(element)
  if not element.classes:includes("wide") then
    return nil
  end
  local widths, total = {}, 0
  for width in element.attributes.widths:gmatch("%d+") do
    table.insert(widths, tonumber(width))
    total = total + tonumber(width)
  end
  return element:walk({ Table = function(found)
    for i, width in ipairs(widths) do
      found.colspecs[i] = { found.colspecs[i][1], width / total }
    end
    return found
  end }).content
end
