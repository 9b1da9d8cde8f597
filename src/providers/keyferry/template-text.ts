/** Owns what can be said of the text of a template before the engine reads it. */

/** How many tags and outputs a text has at most: what parsing it costs. */
export function tagsIn(text: string): number {
  let tags = 0
  for (let at = text.indexOf('{'); at !== -1; at = text.indexOf('{', at + 1)) {
    const next = text.charCodeAt(at + 1)
    if (next === 0x7b || next === 0x25) tags += 1
  }
  return tags
}
