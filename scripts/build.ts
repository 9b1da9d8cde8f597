/** Owns the shipped bundle: ES modules, split, so that a vendor's SDK is loaded when first used. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import * as esbuild from 'esbuild'

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

/** grpc-js loads it only for channelz and ORCA, which we do not serve: it would bring protobufjs into every process. */
const withoutProtoLoader: esbuild.Plugin = {
  name: 'without-proto-loader',
  setup(build) {
    build.onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace: 'absent' }))
    build.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({
      contents:
        "exports.loadSync = () => { throw new Error('@grpc/proto-loader is not part of this bundle') }",
      loader: 'js',
    }))
  },
}

/**
 * An ES module's `import … from 'node:http'` reads every export of it, and some of those load Node's own
 * fetch: 24 ms at every start for something we never use. Taken as an object, nothing is read but what is
 * asked for.
 */
const httpWithoutFetch: esbuild.Plugin = {
  name: 'http-without-fetch',
  setup(build) {
    build.onResolve({ filter: /^(?:node:)?http$/ }, ({ kind }) =>
      kind === 'import-statement' ? { path: 'node:http', namespace: 'as-object' } : undefined,
    )
    build.onLoad({ filter: /.*/, namespace: 'as-object' }, () => ({
      contents: "module.exports = process.getBuiltinModule('node:http')",
      loader: 'js',
    }))
  },
}

await rm(outdir, { recursive: true, force: true })
await esbuild.build({
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
  plugins: [withoutProtoLoader, httpWithoutFetch],
  chunkNames: 'chunks/[name]-[hash]',
  banner: { js: banner },
  logLevel: 'warning',
})
