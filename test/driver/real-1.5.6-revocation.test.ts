import { revocationSuite } from './revocation-suite.ts'

revocationSuite('1.5.6')
