"""The access list of an object of a Samba domain, as SDDL: samba_acl.py SAM CONF DN [SDDL]

Without SDDL it prints the object's own; with it, it replaces it. The owner and the rest stay as they are. SDDL that begins with
O: is an owner, and replaces that alone.
"""

import sys

import ldb
from samba.auth import system_session
from samba.dcerpc import security
from samba.ndr import ndr_pack, ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB

sam, conf, dn = sys.argv[1:4]
loaded = LoadParm()
loaded.load(conf)
samdb = SamDB(url=sam, session_info=system_session(), lp=loaded)
domain = security.dom_sid(samdb.get_domain_sid())
dacl_only = ["sd_flags:1:4"]
if len(sys.argv) == 4:
    found = samdb.search(dn, scope=ldb.SCOPE_BASE, attrs=["nTSecurityDescriptor"], controls=dacl_only)
    print(ndr_unpack(security.descriptor, found[0]["nTSecurityDescriptor"][0]).as_sddl(domain))
else:
    changed = ldb.Message(ldb.Dn(samdb, dn))
    value = ndr_pack(security.descriptor.from_sddl(sys.argv[4], domain))
    changed["a"] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, "nTSecurityDescriptor")
    samdb.modify(changed, controls=["sd_flags:1:1"] if sys.argv[4].startswith("O:") else dacl_only)
