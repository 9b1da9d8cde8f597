import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { DEFAULT_LIMITS } from '../../../src/providers/sops/limits.ts'
import { pace } from '../../../src/providers/sops/pace.ts'
import { readYaml } from '../../../src/providers/sops/stores/yaml.ts'
import type { Tree } from '../../../src/providers/sops/tree.ts'

const SOPS = 'sops:\n  version: "3"\n'

async function read(text: string): Promise<unknown> {
  const { branches } = await readYaml(Buffer.from(text), DEFAULT_LIMITS, pace(DEFAULT_LIMITS))
  return branches.map(plain)
}

function plain(tree: Tree): unknown {
  if (tree.type === 'map')
    return Object.fromEntries(tree.entries.map(({ key, value }) => [key, plain(value)]))
  if (tree.type === 'list') return tree.items.map(plain)
  return tree.type === 'str' ? tree.bytes.toString() : tree.type
}

/** What the library makes of the text in one go. */
function whole(text: string): unknown {
  const { sops: _, ...rest } = parse(text, { schema: 'failsafe', maxAliasCount: -1 }) as Record<
    string,
    unknown
  >
  return [rest]
}

const lines = (count: number, line: (index: number) => string): string =>
  Array.from({ length: count }, (_, index) => line(index)).join('')

describe('a large YAML document', () => {
  const texts: Readonly<Record<string, string>> = {
    'a list': `list:\n${lines(3000, (i) => `  - v${i}\n`)}`,
    'a list at the column of its key': `list:\n${lines(3000, (i) => `- v${i}\n`)}last: x\n`,
    mappings: lines(2000, (i) => `k${i}:\n  a: x${i}\n  b:\n    - y\n    - z${i}\n`),
    'mappings below mappings': lines(
      4,
      (i) => `k${i}:\n${lines(3, (j) => `  m${j}:\n${lines(700, (n) => `    n${n}: v${i}-${j}-${n}\n`)}`)}`,
    ),
    'lists of lists': `top:\n${lines(3, () => `  - - a\n${lines(900, (n) => `    - b${n}\n`)}`)}`,
    'comments and blank lines': lines(1500, (i) => `# about k${i}\n\nk${i}: v # ${i}\n`),
    'block scalars': lines(900, (i) => `k${i}: |\n  line one\n  line ${i}\n`),
    'quoted keys and long values': lines(900, (i) => `"key ${i}": "${'v'.repeat(100)}"\n`),
    'explicit keys': lines(900, (i) => `? k${i}\n: v${i}\n`),
    anchors: `base: &base text\n${lines(900, (i) => `k${i}: ${i % 20 === 0 ? '*base' : 'own'}\n`)}`,
    'an anchor on what is in pieces': `all: &all\n${lines(900, (i) => `  k${i}: v\n`)}again: *all\n`,
    'flow collections': lines(900, (i) => `k${i}: {a: [x, y${i}], b: "z"}\n`),
  }
  for (const [name, text] of Object.entries(texts)) {
    it(`sops A4 of ${name} reads the same in pieces as in one`, async () => {
      expect(await read(text + SOPS)).toEqual(whole(text + SOPS))
      expect(await read(SOPS + text)).toEqual(whole(SOPS + text))
    })
  }

  it('sops A4 has its faults found in whatever piece they are', async () => {
    const faulty: Readonly<Record<string, string>> = {
      'k1: x\n': 'stands twice',
      'bad: "\\q"\n': 'line 2001',
      'bad: [}\n': 'line 2001',
      'k: *none\n': 'an alias without anchor in its document (line 2001',
      '  deeper: v\n': 'line 2000',
    }
    for (const [line, expected] of Object.entries(faulty)) {
      const text = lines(2000, (i) => `k${i}: v\n`) + line + lines(600, (i) => `z${i}: v\n`) + SOPS
      await expect(read(text), line).rejects.toThrow(expected)
    }
  })

  it('sops A15 of too many nodes is refused before it is composed', async () => {
    await expect(read(`a:\n${lines(20_100, (i) => `- x${i}\n`)}${SOPS}`)).rejects.toThrow('"nodes" of 20000')
  })
})
