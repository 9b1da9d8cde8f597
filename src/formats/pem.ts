/** Owns PEM text (RFC 7468, and the headers of RFC 1421): finding blocks in a text and writing them. */

export interface PemBlock {
  /** E.g. `CERTIFICATE`. */
  readonly label: string
  /** In the order of the text. */
  readonly headers: ReadonlyMap<string, string>
  readonly bytes: Buffer
}

const BEGIN = '-----BEGIN '
const END = '-----END '
const DASHES = '-----'

/**
 * Every well-formed block of a text, in order. What stands outside of blocks, and blocks that are
 * broken, are passed over. Linear in the length of the text.
 */
export function pemBlocks(text: string): readonly PemBlock[] {
  const blocks: PemBlock[] = []
  let open: { readonly label: string; readonly lines: string[] } | undefined
  for (const raw of text.split('\n')) {
    const line = raw.trimEnd()
    if (line.startsWith(BEGIN) && line.endsWith(DASHES)) {
      open = { label: line.slice(BEGIN.length, -DASHES.length), lines: [] }
    } else if (line.startsWith(END) && line.endsWith(DASHES)) {
      const block =
        open?.label === line.slice(END.length, -DASHES.length) ? blockOf(open.label, open.lines) : undefined
      if (block !== undefined) blocks.push(block)
      open = undefined
    } else open?.lines.push(line)
  }
  return blocks
}

function blockOf(label: string, lines: readonly string[]): PemBlock | undefined {
  const headers = new Map<string, string>()
  let at = 0
  for (; at < lines.length; at += 1) {
    const line = lines[at] ?? ''
    const colon = line.indexOf(':')
    if (colon === -1) break
    headers.set(line.slice(0, colon).trim(), line.slice(colon + 1).trim())
  }
  const body = lines.slice(at).join('').replaceAll(/\s/g, '')
  if (body.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(body)) return undefined
  return { label, headers, bytes: Buffer.from(body, 'base64') }
}

/** One block: 64 columns, LF, `Proc-Type` before the other headers, which are sorted. Ends in LF. */
export function pemText(block: {
  readonly label: string
  readonly bytes: Uint8Array
  readonly headers?: PemBlock['headers']
}): string {
  const { label, bytes, headers = new Map<string, string>() } = block
  const names = [...headers.keys()].sort(
    (a, b) => Number(b === 'Proc-Type') - Number(a === 'Proc-Type') || (a < b ? -1 : 1),
  )
  const head =
    names.map((name) => `${name}: ${headers.get(name) ?? ''}\n`).join('') + (names.length > 0 ? '\n' : '')
  const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
  let body = ''
  for (let at = 0; at < base64.length; at += 64) body += `${base64.slice(at, at + 64)}\n`
  return `${BEGIN}${label}${DASHES}\n${head}${body}${END}${label}${DASHES}\n`
}
