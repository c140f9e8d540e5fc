-- Verdict words in bold become badges; code may break behind a slash; figures keep their size in print;
-- a division `wide` gives its table the full width, in proportions; behind an empty division `appendix`
-- chapters are numbered by letters.
local classes = { ["short of"] = "short" }
for word in ("reproduced exceeded surpassed differs incomparable pending holds refuted fails"):gmatch("%a+") do
  classes[word] = word
end

function Strong(element)
  local word = pandoc.utils.stringify(element)
  if not classes[word] then
    return nil
  elseif FORMAT:match("typst") then
    return pandoc.RawInline("typst", '#verdict("' .. word .. '")')
  else
    return pandoc.Span(element.content, { class = "verdict " .. classes[word] })
  end
end

function Div(element)
  if element.classes:includes("appendix") then
    if FORMAT:match("typst") then
      return pandoc.RawBlock("typst", "#show: appendix")
    elseif FORMAT:match("latex") then
      return pandoc.RawBlock("latex", "\\clearpage\\appendix")
    end
    return nil
  elseif not element.classes:includes("wide") then
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
    if size.dpi_horz > 100 and not element.attributes.width then
      element.attributes.width = string.format("%.1fem", 7.5 * size.width / size.dpi_horz)
    end
    return element
  end

  function Pandoc(document)  -- typst and LaTeX count by themselves
    local counts, letters, blocks = { 0, 0, 0 }, false, pandoc.List()
    for _, block in ipairs(document.blocks) do
      if block.t == "Div" and block.classes:includes("appendix") then
        counts, letters = { 0, 0, 0 }, true
      else
        if block.t == "Header" and block.level <= 3 and not block.classes:includes("unnumbered") then
          counts[block.level] = counts[block.level] + 1
          for level = block.level + 1, 3 do counts[level] = 0 end
          local number = { letters and string.char(64 + counts[1]) or tostring(counts[1]) }
          for level = 2, block.level do table.insert(number, tostring(counts[level])) end
          block.attributes.number = table.concat(number, ".")
        end
        blocks:insert(block)
      end
    end
    document.blocks = blocks
    return document
  end
end
