/** Owns the shipped bundle: ES modules, split, so that a vendor's SDK is loaded when first used. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'

const root = join(import.meta.dirname, '..')
const outdir = join(root, 'dist')

/** grpc-js and pino are CommonJS; they find these three in an ES module only through a banner. */
const banner = [
  "import { createRequire as __createRequire } from 'node:module'",
  "import { fileURLToPath as __fileURLToPath } from 'node:url'",
  "import { dirname as __pathDirname } from 'node:path'",
  'const require = __createRequire(import.meta.url)',
  'const __filename = __fileURLToPath(import.meta.url)',
  'const __dirname = __pathDirname(__filename)',
].join('\n')

await rm(outdir, { recursive: true, force: true })
await build({
  entryPoints: { cli: join(root, 'src/cli.ts'), adapter: join(root, 'src/providers/adapter.ts') },
  outdir,
  bundle: true,
  format: 'esm',
  splitting: true,
  platform: 'node',
  target: 'node24',
  mainFields: ['module', 'main'],
  conditions: ['module', 'import', 'node'],
  legalComments: 'external',
  external: ['openpgp'],
  chunkNames: 'chunks/[name]-[hash]',
  banner: { js: banner },
  logLevel: 'warning',
})
