-- Verdict words in bold become badges; code may break behind a slash; figures keep their size in print;
-- a division `wide` gives its table the full width, in proportions.
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

if FORMAT:match("html") then
  function Code(element)
    local escaped = element.text:gsub("&", "&amp;"):gsub("<", "&lt;"):gsub(">", "&gt;")
    return pandoc.RawInline("html", "<code>" .. escaped:gsub("[/_=,]", "%0<wbr>") .. "</code>")
  end

  function Image(element)
    local _, content = pandoc.mediabag.fetch(element.src)
    local size = pandoc.image.size(content)
    if size.dpi_horz > 100 then
      element.attributes.width = string.format("%.1fem", 7.5 * size.width / size.dpi_horz)
    end
    return element
  end
end
