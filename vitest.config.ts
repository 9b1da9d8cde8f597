import { defineConfig } from 'vitest/config'

// Suites that need a real peer (the driver, moto, a Vault server) live under test/driver and
// test/emulators and are run by their own commands; `npm test` needs nothing but Node.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/driver/**', 'test/emulators/**', 'test/on-demand/**', '**/node_modules/**'],
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 30_000,
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      reporter: ['text-summary', 'html'],
    },
  },
})
