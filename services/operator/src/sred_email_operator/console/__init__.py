"""The web console: server-rendered pages over the two gRPC services, for operators.

It keeps nothing of its own: who is logged in and what a form may do stand in cookies, everything else is asked for, so
any number of replicas stand behind one load balancer. To add a page: write it in ``pages/`` with its template in
``templates/``, name it in ``app.py`` and in the navigation of ``templates/base.html``. What changes something belongs
in a class of its own, whose routes exist only where the console may change something.
"""
