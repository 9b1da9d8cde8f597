import { mountSuite16 } from './mount-suite-1.6.ts'
import { serverSubject } from './server-subject.ts'

mountSuite16('our server and a scripted pipeline', serverSubject, [])
