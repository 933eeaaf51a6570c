"""``tailrace prove``: Tailrace's promises, tried on this machine with the real product.

Each proof is a module of its own: it starts daemons as users do, in a folder of
its own, does to them what must do no harm, and looks at what became of it by
means of its own. Nothing here reads a journal, an event stream or a process
table through the code that it judges.
"""
